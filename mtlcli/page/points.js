const VIEW = 60 * Math.PI / 180;  // across the picture
const MOST = 60000;  // points

function pixelsOf(url) {
  return new Promise((done) => {
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
      const pen = canvas.getContext("2d");
      pen.drawImage(image, 0, 0);
      done(pen.getImageData(0, 0, canvas.width, canvas.height));
    };
    image.src = url;
  });
}

async function readCloud(root) {
  const figure = root.querySelector('[data-kind="number"][data-unit="m"]');
  const [metres, colours] = await Promise.all(
    [figure.dataset.values, root.querySelector("img").src].map(pixelsOf));
  const {width, height, data} = metres;
  const every = Math.max(1, Math.ceil(Math.sqrt(width * height / MOST)));
  const focal = width / 2 / Math.tan(VIEW / 2), step = Number(figure.dataset.step);
  const places = [], shades = [], depths = [];
  for (let v = 0; v < height; v += every) {
    for (let u = 0; u < width; u += every) {
      const at = 4 * (v * width + u), z = (256 * data[at] + data[at + 1]) * step;
      if (!z) continue;
      places.push((u + 0.5 - width / 2) / focal * z, (v + 0.5 - height / 2) / focal * z, z);
      depths.push(z);
      const x = Math.floor((u + 0.5) / width * colours.width);
      const y = Math.floor((v + 0.5) / height * colours.height);
      const from = 4 * (y * colours.width + x);
      shades.push((255 << 24) | (colours.data[from + 2] << 16) | (colours.data[from + 1] << 8)
        | colours.data[from]);
    }
  }
  depths.sort((a, b) => a - b);
  const middle = depths[depths.length >> 1] ?? 1;
  return {places, shades, middle, every, focal, width, height};
}

function drawCloud(canvas, cloud, yaw, pitch) {
  const {places, shades, middle, focal, width, height} = cloud;
  const factor = canvas.width / width, near = new Float32Array(canvas.width * canvas.height);
  const picture = new ImageData(canvas.width, canvas.height);
  const inks = new Uint32Array(picture.data.buffer);
  const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
  const apart = 1.4 * cloud.every * factor;  // pixels between neighbours where they were seen
  for (let i = 0; i < shades.length; i++) {
    const x = places[3 * i], y = places[3 * i + 1], d = places[3 * i + 2] - middle;
    const turned = cy * d - sy * x, across = cy * x + sy * d;
    const z = cp * turned - sp * y + middle, up = cp * y + sp * turned;
    if (z < 0.05 * middle) continue;
    const size = Math.min(Math.ceil(apart * places[3 * i + 2] / z), 9);
    const left = Math.round((across / z * focal + width / 2) * factor - size / 2);
    const top = Math.round((up / z * focal + height / 2) * factor - size / 2);
    for (let v = Math.max(0, top); v < Math.min(canvas.height, top + size); v++) {
      for (let u = Math.max(0, left); u < Math.min(canvas.width, left + size); u++) {
        const at = v * canvas.width + u;
        if (1 / z > near[at]) { near[at] = 1 / z; inks[at] = shades[i]; }
      }
    }
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

async function showPoints(canvas) {
  canvas.started = true;
  const cloud = await readCloud(element);
  [canvas.width, canvas.height] = [480, Math.round(480 * cloud.height / cloud.width)];
  let yaw, pitch, from = null;
  const turn = (across, up) => {
    yaw = Math.min(Math.max(yaw + across, -1.2), 1.2);
    pitch = Math.min(Math.max(pitch + up, -1.2), 1.2);
    drawCloud(canvas, cloud, yaw, pitch);
    canvas.dataset.turned = yaw.toFixed(2) + " " + pitch.toFixed(2);
  };
  const reset = () => { [yaw, pitch] = [0, 0]; turn(0.2, 0.08); };
  canvas.addEventListener("pointerdown", (event) => {
    from = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!from) return;
    turn((event.clientX - from[0]) / 150, (event.clientY - from[1]) / -150);
    from = [event.clientX, event.clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, () => { from = null; });
  }
  canvas.addEventListener("dblclick", reset);
  canvas.addEventListener("keydown", (event) => {
    const way = {ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1]};
    if (!way[event.key]) return;
    event.preventDefault();
    turn(...way[event.key]);
  });
  reset();
}

function startPoints() {
  for (const canvas of element.querySelectorAll(".mtl-points canvas")) {
    if (!canvas.started) showPoints(canvas);
  }
}

new MutationObserver(startPoints).observe(element, {childList: true, subtree: true});
startPoints();

element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-save]");
  if (!button) return;
  const image = button.closest("figure").querySelector(".mtl-picture img");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  canvas.getContext("2d").drawImage(image, 0, 0);
  const link = document.createElement("a");
  Object.assign(link, {href: canvas.toDataURL("image/png"), download: button.dataset.save + "_colours.png"});
  link.click();
});
