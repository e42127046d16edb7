const canvases = new WeakMap();

function pixels(figure) {
  if (!canvases.has(figure)) {
    const canvas = document.createElement("canvas");
    const values = new Image();
    canvases.set(figure, canvas);
    values.onload = () => {
      canvas.width = values.width;
      canvas.height = values.height;
      canvas.getContext("2d", {willReadFrequently: true}).drawImage(values, 0, 0);
      canvas.ready = true;
    };
    values.src = figure.dataset.values;
  }
  return canvases.get(figure);
}

const readers = {
  class: ([index], names) => names[index] ?? "",
  number: ([high, low], names, {unit, step}) => ((256 * high + low) * step).toFixed(2) + " " + unit,
  share: ([value]) => Math.round(value / 2.55) + " %",
  direction: (codes) => [...codes.slice(0, 3)]
    .map((code, i) => "xyz"[i] + " " + (2 * code / 255 - 1).toFixed(2)).join("  "),
};

function tell(figure, x, y) {
  const cross = figure.querySelector(".mtl-cross");
  Object.assign(cross.style, {display: "block", left: 100 * x + "%", top: 100 * y + "%"});
  if (!figure.dataset.kind) return;
  const canvas = pixels(figure);
  if (!canvas.ready) return;
  const at = [Math.floor(x * canvas.width), Math.floor(y * canvas.height)];
  const value = canvas.getContext("2d").getImageData(...at, 1, 1).data;
  const names = JSON.parse(figure.dataset.names);
  figure.querySelector("output").textContent = readers[figure.dataset.kind](value, names, figure.dataset);
}

function clear() {
  for (const cross of element.querySelectorAll(".mtl-cross")) cross.style.display = "none";
  for (const output of element.querySelectorAll(".mtl-tile output")) output.textContent = "";
}

function follow(event) {
  const picture = event.target.closest?.(".mtl-picture");
  if (!picture) return clear();
  const box = picture.getBoundingClientRect();
  const x = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 0.9999);
  const y = Math.min(Math.max((event.clientY - box.top) / box.height, 0), 0.9999);
  const figures = [...element.querySelectorAll(".mtl-tile")];
  for (const figure of figures) tell(figure, x, y);
  const spoken = ["class", "number"].map(k => figures.find(f => f.dataset.kind === k));
  figures[0].querySelector("output").textContent =
    spoken.map(f => f?.querySelector("output").textContent).filter(Boolean).join(", ");
}

element.addEventListener("pointermove", follow);
element.addEventListener("pointerdown", follow);
element.addEventListener("pointerleave", clear);
