"use strict";
// Three planes through one point: CT, mask, cross-hair.

const PLANES = [
  { name: "axial", fixed: 0, down: 1, across: 2, colour: "#ffd84d" },
  { name: "sagittal", fixed: 2, down: 0, across: 1, colour: "#ff7ad9" },
  { name: "coronal", fixed: 1, down: 0, across: 2, colour: "#4dd8ff" },
];
const LINE = { 0: PLANES[0].colour, 2: PLANES[1].colour, 1: PLANES[2].colour };

class PlaneView {
  constructor(plane, scene, pane) {
    Object.assign(this, { plane, scene, pane });
    this.canvas = pane.querySelector("canvas");
    this.slider = pane.querySelector("input[type=range]");
    this.text = pane.querySelector("output");
    this.ct = document.createElement("canvas");
    this.overlay = document.createElement("canvas");
    this.slider.max = scene.shape[plane.fixed] - 1;
    this.slider.addEventListener("input", () => this.moveTo(Number(this.slider.value)));
    this.canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    this.rolled = 0;
  }

  // Whether these are the slices of the file itself, which have numbers of their own.
  get ofFile() { return this.scene.axes[this.plane.fixed] === 0; }

  get index() { return this.scene.voxel[this.plane.fixed]; }

  moveTo(index) {
    const voxel = [...this.scene.voxel];
    voxel[this.plane.fixed] = index;
    this.scene.goTo(voxel);
  }

  onWheel(event) {
    event.preventDefault();
    this.rolled += event.deltaMode === 0 ? event.deltaY / 40 : event.deltaY;
    const steps = Math.trunc(this.rolled) || (Math.abs(event.deltaY) >= 20 ? Math.sign(event.deltaY) : 0);
    if (Math.abs(event.deltaY) >= 20) this.rolled = 0; else this.rolled -= steps;
    if (steps) this.moveTo(this.index + Math.sign(steps) * Math.min(Math.abs(steps), event.shiftKey ? 10 : 1));
  }

  onKey(event) {
    const last = this.scene.shape[this.plane.fixed] - 1;
    const to = {
      ArrowUp: this.index - 1, ArrowLeft: this.index - 1, ArrowDown: this.index + 1, ArrowRight: this.index + 1,
      PageUp: this.index - 10, PageDown: this.index + 10, Home: 0, End: last,
    }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.moveTo(to);
  }

  // Mouse: left sets the point, right or shift changes the window. Finger: tap sets the point, drag scrolls.
  onDown(event) {
    const { canvas, scene } = this;
    const touch = event.pointerType === "touch", windowing = event.button === 2 || event.shiftKey;
    const from = { x: event.clientX, y: event.clientY, index: this.index, ...scene.window };
    let moved = false;
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const onMove = (move) => {
      const [dx, dy] = [move.clientX - from.x, move.clientY - from.y];
      moved ||= Math.hypot(dx, dy) > 6;
      if (windowing) scene.setWindow(from.level + dy * 2, from.width + dx * 4);
      else if (!touch) this.pointAt(move);
      else if (moved) this.moveTo(from.index + Math.round(dy / 6));
    };
    const onUp = (up) => {
      if (touch && !moved && up.type === "pointerup") this.pointAt(up);
      for (const [type, handler] of listeners) canvas.removeEventListener(type, handler);
    };
    const listeners = [["pointermove", onMove], ["pointerup", onUp], ["pointercancel", onUp]];
    for (const [type, handler] of listeners) canvas.addEventListener(type, handler);
    if (!windowing && !touch) this.pointAt(event);
  }

  pointAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const { left, top, across, down } = this.fit(box.width, box.height);
    const voxel = [...this.scene.voxel];
    voxel[this.plane.across] = Math.floor((event.clientX - box.left - left) / across);
    voxel[this.plane.down] = Math.floor((event.clientY - box.top - top) / down);
    this.scene.goTo(voxel);
  }

  // Where the volume lies on a canvas of this size, and the size of one voxel; the same scale both ways in mm.
  fit(width, height) {
    const { shape, spacing } = this.scene, { across, down } = this.plane;
    const [mmAcross, mmDown] = [shape[across] * spacing[across], shape[down] * spacing[down]];
    const perMm = Math.min(width / mmAcross, height / mmDown);
    return {
      left: (width - mmAcross * perMm) / 2, top: (height - mmDown * perMm) / 2,
      across: spacing[across] * perMm, down: spacing[down] * perMm, perMm,
    };
  }

  draw() {
    const { canvas, plane, scene } = this, ratio = Math.min(window.devicePixelRatio || 1, 2);
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const context = canvas.getContext("2d"), fit = this.fit(canvas.width, canvas.height);
    const { shape } = scene, [width, height] = [shape[plane.across] * fit.across, shape[plane.down] * fit.down];
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.save();
    context.beginPath();
    context.rect(fit.left, fit.top, width, height);
    context.clip();
    context.imageSmoothingQuality = "high";
    this.place(context, this.paint(this.ct, scene.image, scene.greys), scene.image, fit, true);
    if (scene.mask) this.drawMask(context, fit);
    if (scene.crosshair) this.drawCrosshair(context, fit, ratio);
    context.restore();
    this.drawScale(context, fit, ratio);
    this.tell();
  }

  drawMask(context, fit) {
    const { scene, plane } = this;
    const painted = this.paint(this.overlay, scene.mask, scene.fills);
    if (!painted) return;
    this.place(context, painted, scene.mask, fit, false);
    if (!scene.outlines) return;
    const { factors, offset } = scene.mask;
    const at = { left: fit.left + offset[plane.across] * fit.across, top: fit.top + offset[plane.down] * fit.down };
    const size = { across: factors[plane.across] * fit.across, down: factors[plane.down] * fit.down };
    context.lineWidth = Math.max(1.25, Math.min(2.5, canvasScale(this.canvas) * 1.5));
    for (const label of scene.labels) {
      if (!label.shown) continue;
      context.strokeStyle = label.colour;
      context.stroke(outline(painted.plane, label.value, at, size));
    }
  }

  // Fill an unseen canvas, one pixel a value, with the colours of a table.
  paint(canvas, grid, colours) {
    const plane = grid.plane(this.plane, this.index);
    if (!plane) return null;
    if (canvas.width !== plane.width) canvas.width = plane.width;
    if (canvas.height !== plane.height) canvas.height = plane.height;
    const context = canvas.getContext("2d"), picture = context.createImageData(plane.width, plane.height);
    const pixels = new Uint32Array(picture.data.buffer);
    for (let n = 0; n < pixels.length; n++) pixels[n] = colours[plane.values[n]];
    context.putImageData(picture, 0, 0);
    return { canvas, plane };
  }

  place(context, { canvas }, grid, fit, smooth) {
    const { across, down } = this.plane, { factors, offset } = grid;
    context.imageSmoothingEnabled = smooth;
    context.drawImage(
      canvas, fit.left + offset[across] * fit.across, fit.top + offset[down] * fit.down,
      canvas.width * factors[across] * fit.across, canvas.height * factors[down] * fit.down,
    );
  }

  drawCrosshair(context, fit, ratio) {
    const { scene: { voxel }, plane: { across, down }, canvas } = this;
    const x = fit.left + (voxel[across] + 0.5) * fit.across, y = fit.top + (voxel[down] + 0.5) * fit.down;
    const gap = 10 * ratio;
    context.lineWidth = ratio;
    context.globalAlpha = 0.75;
    for (const [colour, lines] of [
      [LINE[across], [[x, 0, x, y - gap], [x, y + gap, x, canvas.height]]],
      [LINE[down], [[0, y, x - gap, y], [x + gap, y, canvas.width, y]]],
    ]) {
      context.strokeStyle = colour;
      context.beginPath();
      for (const [x0, y0, x1, y1] of lines) { context.moveTo(x0, y0); context.lineTo(x1, y1); }
      context.stroke();
    }
    context.globalAlpha = 1;
  }

  drawScale(context, { perMm }, ratio) {
    const mm = [100, 50, 20, 10, 5, 2].find((length) => length * perMm < this.canvas.width / 4) || 1;
    const [x, y] = [12 * ratio, this.canvas.height - 12 * ratio];
    context.strokeStyle = context.fillStyle = "#e8e8e8";
    context.lineWidth = 1.5 * ratio;
    context.beginPath();
    context.moveTo(x, y - 4 * ratio);
    context.lineTo(x, y);
    context.lineTo(x + mm * perMm, y);
    context.lineTo(x + mm * perMm, y - 4 * ratio);
    context.stroke();
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    context.fillText(mm >= 10 ? `${mm / 10} cm` : `${mm} mm`, x + 3 * ratio, y - 6 * ratio);
  }

  tell() {
    const { plane: { fixed, name }, scene } = this, count = scene.shape[fixed];
    const where = scene.positionText(fixed);
    this.slider.value = this.index;
    const place = this.ofFile ? `slice ${scene.numberOf(scene.voxel)}` : `${this.index + 1} / ${count}`;
    this.slider.setAttribute("aria-valuetext", `${name} ${place}, ${where}`);
    this.text.textContent = `${place} · ${where}`;
    this.canvas.dataset.slice = this.index;
  }
}

function canvasScale(canvas) { return canvas.width / Math.max(canvas.clientWidth, 1); }

// The border between a label and everything else, along the edges of its voxels.
function outline({ values, height, width }, label, at, size) {
  const path = new Path2D();
  const is = (row, column) =>
    row >= 0 && row < height && column >= 0 && column < width && values[row * width + column] === label;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (values[row * width + column] !== label) continue;
      const x0 = at.left + column * size.across, x1 = x0 + size.across;
      const y0 = at.top + row * size.down, y1 = y0 + size.down;
      if (!is(row - 1, column)) { path.moveTo(x0, y0); path.lineTo(x1, y0); }
      if (!is(row + 1, column)) { path.moveTo(x0, y1); path.lineTo(x1, y1); }
      if (!is(row, column - 1)) { path.moveTo(x0, y0); path.lineTo(x0, y1); }
      if (!is(row, column + 1)) { path.moveTo(x1, y0); path.lineTo(x1, y1); }
    }
  }
  return path;
}
