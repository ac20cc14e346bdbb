"use strict";
// What the three planes and the surfaces share, and the controls around them.

class Scene {
  constructor(setup, image, mask) {
    Object.assign(this, setup, { image, mask, crosshair: true, outlines: true, opacity: 0.3, views: [] });
    this.window = {};
    this.voxel = setup.start;
  }

  changed() {
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    for (const view of this.views) view.draw();
    document.getElementById("here").textContent = this.describe();
  }

  goTo(voxel) {
    this.voxel = voxel.map((n, axis) => Math.min(this.shape[axis] - 1, Math.max(0, Math.round(n))));
    this.changed();
  }

  setWindow(level, width) {
    this.window = { level: Math.round(level), width: Math.max(1, Math.round(width)) };
    this.greys = Uint32Array.from(this.levels_hu, (hu) => {
      const grey = Math.min(255, Math.max(0, Math.round((255 * (hu - level)) / this.window.width + 127.5)));
      return 0xff000000 | (grey * 0x010101);
    });
    showWindow(this.window);
    this.changed();
  }

  setMask(change = {}) {
    Object.assign(this, change);
    this.fills = new Uint32Array(256);
    for (const { value, rgb, shown } of this.labels) {
      if (shown) this.fills[value] = ((Math.round(255 * this.opacity) << 24) | (rgb[2] << 16) | (rgb[1] << 8) | rgb[0]) >>> 0;
    }
    this.changed();
  }

  // Patient coordinates of the point, LPS millimetres.
  position() {
    return this.affine.map((row) => row[0] * this.voxel[0] + row[1] * this.voxel[1] + row[2] * this.voxel[2] + row[3]);
  }

  positionText(axis) {
    const world = [2, 1, 0][axis], mm = this.position()[world];
    return `${["RL", "AP", "FH"][world][mm < 0 ? 0 : 1]} ${Math.abs(mm).toFixed(1)} mm`;
  }

  // Between the page's indices and those of the volume's file.
  fromFile(index) {
    return this.axes.map((axis, n) => (this.flips[n] ? this.shape[n] - 1 - index[axis] : index[axis]));
  }

  toFile(voxel) {
    const index = [0, 0, 0];
    this.axes.forEach((axis, n) => { index[axis] = this.flips[n] ? this.shape[n] - 1 - voxel[n] : voxel[n]; });
    return index;
  }

  // The number by which people find the slice of the volume that a voxel lies in.
  numberOf(voxel) { return this.slice_numbers[this.toFile(voxel)[0]]; }

  labelAt(voxel) { return this.mask ? this.mask.at(voxel) : 0; }

  huAt(voxel) { return this.levels_hu[this.image.at(voxel)]; }

  describe() {
    const label = this.labels.find(({ value }) => value === this.labelAt(this.voxel));
    const where = [2, 1, 0].map((axis) => this.positionText(axis)).join(", ");
    const mask = this.mask ? ` · ${label ? label.name : "no label"}` : "";
    return `slice ${this.numberOf(this.voxel)} · ${where} · about ${this.huAt(this.voxel)} HU${mask} · voxel [slice, row, column] = [${this.toFile(this.voxel).join(", ")}]`;
  }
}

function showWindow({ level, width }) {
  document.getElementById("level").value = level;
  document.getElementById("width").value = width;
  for (const button of document.querySelectorAll("[data-level]")) {
    const same = Number(button.dataset.level) === level && Number(button.dataset.width) === width;
    button.setAttribute("aria-pressed", String(same));
  }
}

function connect(scene) {
  const on = (id, type, act) => document.getElementById(id)?.addEventListener(type, (event) => act(event.target));
  for (const button of document.querySelectorAll("[data-level]")) {
    button.addEventListener("click", () => scene.setWindow(Number(button.dataset.level), Number(button.dataset.width)));
  }
  on("level", "change", (field) => scene.setWindow(Number(field.value) || 0, scene.window.width));
  on("width", "change", (field) => scene.setWindow(scene.window.level, Number(field.value) || 1));
  on("opacity", "input", (field) => scene.setMask({ opacity: Number(field.value) / 100 }));
  on("outlines", "change", (box) => scene.setMask({ outlines: box.checked }));
  on("crosshair", "change", (box) => { scene.crosshair = box.checked; scene.changed(); });
  for (const box of document.querySelectorAll("[data-label]")) {
    box.addEventListener("change", () => {
      scene.labels.find(({ value }) => value === Number(box.dataset.label)).shown = box.checked;
      scene.setMask();
    });
  }
  for (const button of document.querySelectorAll("[data-go]")) {
    button.addEventListener("click", () => {
      scene.goTo(JSON.parse(button.dataset.go));
      document.getElementById("images").scrollIntoView();
    });
  }
  for (const button of document.querySelectorAll(".enlarge")) {
    button.addEventListener("click", () => {
      const pane = button.closest(".pane");
      enlarge(pane.classList.contains("large") ? null : pane);
    });
  }
  document.addEventListener("keydown", ({ key }) => { if (key === "Escape") enlarge(null); });
  new ResizeObserver(() => scene.changed()).observe(document.querySelector(".panes"));
  for (const type of ["beforeprint", "afterprint"]) window.addEventListener(type, () => scene.draw());
}

// At most one pane is large; the pictures draw themselves anew when the panes change their size.
function enlarge(pane) {
  const before = document.querySelector(".pane.large");
  for (const each of document.querySelectorAll(".pane")) {
    each.classList.toggle("large", each === pane);
    each.querySelector(".enlarge span").textContent = each === pane ? "Reduce" : "Enlarge";
  }
  (pane || before)?.scrollIntoView({ block: "nearest" });
}

// The panes are as high as the volume needs, not higher: a few slices make low coronal and sagittal pictures.
function proportion(scene) {
  const [high, deep, wide] = scene.shape.map((count, axis) => count * scene.spacing[axis]);
  const within = (ratio, least, most) => String(Math.min(most, Math.max(least, ratio)));
  for (const [panes, ratio] of [
    ["axial, surface", within(wide / deep, 1, 1.5)],
    ["sagittal, coronal", within(Math.max(wide, deep) / high, 0.8, 4)],
  ]) {
    for (const name of panes.split(", ")) {
      const pane = document.getElementById(`pane-${name}`);
      pane?.querySelector(".picture").style.setProperty("--ratio", ratio);
    }
  }
}

async function surfaces(scene) {
  return Promise.all(scene.meshes.map(async ({ label, vertices, triangles }) => {
    const [corners, steps] = [await inflated(vertices), await inflated(triangles)];
    const points = Float32Array.from(new Int16Array(corners.buffer), (n) => n * scene.unit_mm);
    const indices = new Int32Array(steps.buffer);
    for (let n = 1; n < indices.length; n++) indices[n] += indices[n - 1];
    return { label: scene.labels.find(({ value }) => value === label), points, triangles: indices };
  }));
}

async function show(setup) {
  const image = new Grid(setup.image, sumAlongRows(await inflated("image-data"), setup.image.shape[2]));
  const mask = setup.mask && new Grid(setup.mask, await inflated("mask-data"));
  const scene = new Scene(setup, image, mask);
  scene.views = PLANES.map((plane) => new PlaneView(plane, scene, document.getElementById(`pane-${plane.name}`)));
  if (scene.meshes.length) {
    scene.views.push(new SurfaceView(scene, document.getElementById("pane-surface"), await surfaces(scene)));
  }
  proportion(scene);
  scene.setMask();
  scene.setWindow(...setup.window_hu);
  connect(scene);
  scene.draw();
  window.claraReport = scene;
  document.getElementById("images").dataset.ready = "true";
}

const setupElement = document.getElementById("setup");
if (setupElement) {
  show(JSON.parse(setupElement.textContent)).catch((error) => {
    const line = document.getElementById("trouble");
    line.hidden = false;
    line.textContent = typeof DecompressionStream === "undefined"
      ? "This browser is too old to show the slices (it lacks DecompressionStream); take one of 2023 or later."
      : `The slices cannot be shown: ${error.message}`;
    console.error(error);
  });
}
