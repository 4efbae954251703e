// What only the browser can do for the viewer: keys, uploads, and saving an export.
// The page puts SHORTCUTS before it: the command of each key.
(() => {
  const typing = (element) => element.matches("input:not([type=checkbox], [type=range]), textarea, [contenteditable]");

  const nameOf = (event) =>
    (event.ctrlKey || event.metaKey ? "Ctrl+" : "") +
    (event.shiftKey ? "Shift+" : "") +
    (event.key.length === 1 ? event.key.toUpperCase() : event.key);

  window.addEventListener(
    "keydown",
    (event) => {
      if (typing(event.target) || event.altKey || event.repeat) return;
      const command = SHORTCUTS[nameOf(event)];
      if (!command) return;
      // The views would pass the key on to VTK, which has meanings of its own for it.
      event.stopImmediatePropagation();
      event.preventDefault();
      window.trame.trigger("command", [command]);
    },
    true,
  );

  window.sam3dsegment = {
    async upload(input, route) {
      const form = new FormData();
      for (const file of input.files) form.append("file", file, file.webkitRelativePath || file.name);
      input.value = "";
      try {
        const answer = await fetch(route, { method: "POST", body: form });
        if (!answer.ok && answer.status !== 400) throw new Error(answer.statusText);
      } catch (error) {
        window.trame.trigger("upload_failed", [String(error.message)]);
      }
    },

    save(name) {
      const link = document.createElement("a");
      link.href = "download/" + encodeURIComponent(name);
      link.download = name;
      link.click();
    },
  };
})();
