// Copies the field that a button names in `data-copies`; without a clipboard it selects the field.
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", async () => {
    const field = document.getElementById(button.dataset.copies);
    const status = document.getElementById("copy-status");
    try {
      await navigator.clipboard.writeText(field.value);
      status.textContent = "Copied.";
    } catch {
      field.select();
      status.textContent = "The text is selected: copy it with Ctrl+C or ⌘C.";
    }
  });
}
