
const range = element.querySelector("input");
const frame = element.closest(".slid");
let waiting = 0;
range.addEventListener("input", () => {
  waiting = waiting || setTimeout(() => {
    const box = frame.querySelector("textarea, input:not([type=range])");
    waiting = 0;
    box.value = String(Math.round(2 ** Number(range.value)));
    box.dispatchEvent(new Event("input", {bubbles: true}));
    setTimeout(() => box.dispatchEvent(new Event("blur")), 50);
  }, 300);
});
const times = {k: 1000, K: 1024, m: 1000000, M: 1048576};
frame.addEventListener("input", (event) => {
  if (event.target === range) return;
  const found = /^\s*([0-9][0-9.,_]*)\s*([kKmM]?)\s*$/.exec(event.target.value);
  const number = found && Number(found[1].replace(/[,_]/g, "")) * (times[found[2]] || 1);
  if (number > 0 && !waiting && Math.round(2 ** Number(range.value)) !== number)
    range.value = Math.log2(number);
});
