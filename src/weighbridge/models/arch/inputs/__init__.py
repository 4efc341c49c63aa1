"""Images and sounds as processors make them, before a tower computes on them."""
