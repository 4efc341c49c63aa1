// Names that the theme leaves out, for people who hear the page.
const search = document.querySelector(".md-search[role=dialog]");
if (search) search.setAttribute("aria-label", search.querySelector("input").placeholder);
document.querySelectorAll("nav.md-nav").forEach((nav) => {
  const title = nav.querySelector(":scope > .md-nav__title");
  if (title && !nav.hasAttribute("aria-label")) nav.setAttribute("aria-label", title.textContent.trim());
});
// Buttons that copy stand in a landmark each; they are no places of the page.
new MutationObserver(() =>
  document.querySelectorAll("nav.md-code__nav:not([role])").forEach((nav) => nav.setAttribute("role", "none")),
).observe(document.body, { childList: true, subtree: true });
