"use strict";
// Surfaces drawn without WebGL, so that they are seen on any machine: each label has a depth buffer of its
// own, and what lies in front is laid over what lies behind.

class SurfaceView {
  constructor(scene, pane, meshes) {
    Object.assign(this, { scene, pane, meshes });
    this.canvas = pane.querySelector("canvas");
    this.zoom = 1;
    this.look("front");
    this.reach = 1;
    for (const mesh of meshes) {
      mesh.normals = normalsOf(mesh);
      for (let n = 0; n < mesh.points.length; n += 3) {
        this.reach = Math.max(this.reach, Math.hypot(...mesh.points.subarray(n, n + 3)));
      }
    }
    this.canvas.addEventListener("pointerdown", (event) => this.onDown(event));
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(event.deltaY < 0 ? 1.1 : 1 / 1.1);
    }, { passive: false });
    for (const button of pane.querySelectorAll("[data-look]")) {
      button.addEventListener("click", () => { this.look(button.dataset.look); this.changed(); });
    }
  }

  // Rows of the rotation, which a name stands for until it is turned: screen right, screen down, away from the viewer, in LPS.
  look(from) {
    this.from = from;
    this.turn = {
      front: [1, 0, 0, 0, 0, -1, 0, 1, 0],
      left: [0, 1, 0, 0, 0, -1, -1, 0, 0],
      right: [0, -1, 0, 0, 0, -1, 1, 0, 0],
      back: [-1, 0, 0, 0, 0, -1, 0, -1, 0],
      feet: [1, 0, 0, 0, 1, 0, 0, 0, 1],
    }[from];
  }

  // The slices need not be drawn again.
  changed() {
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  rotate(right, down) {
    const [cr, sr, cd, sd] = [Math.cos(right), Math.sin(right), Math.cos(down), Math.sin(down)];
    const about = [cr, 0, -sr, -sr * sd, cd, -cr * sd, sr * cd, sd, cr * cd];
    const old = this.turn, next = new Array(9);
    for (let r = 0; r < 3; r++) for (let c = 0; c < 3; c++) {
      next[3 * r + c] = about[3 * r] * old[c] + about[3 * r + 1] * old[3 + c] + about[3 * r + 2] * old[6 + c];
    }
    this.turn = next;
    this.from = "";
    this.changed();
  }

  zoomBy(factor) {
    this.zoom = Math.min(8, Math.max(0.4, this.zoom * factor));
    this.changed();
  }

  onDown(event) {
    let { clientX: x, clientY: y } = event;
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const onMove = (move) => {
      this.rotate((move.clientX - x) * 0.01, (move.clientY - y) * 0.01);
      ({ clientX: x, clientY: y } = move);
    };
    this.canvas.onpointermove = onMove;
    this.canvas.onpointerup = this.canvas.onpointercancel = () => { this.canvas.onpointermove = null; };
  }

  onKey(event) {
    const act = {
      ArrowLeft: () => this.rotate(-0.15, 0), ArrowRight: () => this.rotate(0.15, 0),
      ArrowUp: () => this.rotate(0, -0.15), ArrowDown: () => this.rotate(0, 0.15),
      "+": () => this.zoomBy(1.2), "=": () => this.zoomBy(1.2), "-": () => this.zoomBy(1 / 1.2),
      Home: () => { this.zoom = 1; this.look("front"); this.changed(); },
    }[event.key];
    if (!act || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    act();
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { canvas } = this, ratio = Math.min(window.devicePixelRatio || 1, 1.5);
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const scale = (0.46 * Math.min(width, height) * this.zoom) / this.reach;
    const layers = this.meshes
      .filter(({ label }) => label.shown)
      .map((mesh) => rasterised(mesh, this.turn, scale, width, height));
    const context = canvas.getContext("2d", { willReadFrequently: true }), picture = context.createImageData(width, height);
    composite(layers, picture.data);
    context.putImageData(picture, 0, 0);
    this.drawCompass(context, ratio);
    for (const button of this.pane.querySelectorAll("[data-look]")) {
      button.setAttribute("aria-pressed", String(button.dataset.look === this.from));
    }
    canvas.dataset.turn = this.turn.map((value) => value.toFixed(3)).join(" ");
  }

  drawCompass(context, ratio) {
    const [x, y, arm] = [44 * ratio, this.canvas.height - 44 * ratio, 24 * ratio], t = this.turn;
    const ends = ["R L", "A P", "F H"].flatMap((pair, axis) => pair.split(" ").map((letter, n) => {
      const sign = n ? 1 : -1;
      return { letter, dx: sign * t[axis], dy: sign * t[3 + axis], depth: sign * t[6 + axis] };
    }));
    ends.sort((a, b) => b.depth - a.depth);
    Object.assign(context, { textAlign: "center", textBaseline: "middle", lineWidth: ratio });
    context.font = `600 ${12 * ratio}px system-ui, sans-serif`;
    for (const { letter, dx, dy, depth } of ends) {
      context.globalAlpha = 0.7 - 0.3 * depth;
      [context.strokeStyle, context.fillStyle] = ["#888", "#ffd84d"];
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(x + dx * arm, y + dy * arm);
      context.stroke();
      context.fillText(letter, x + dx * arm * 1.4, y + dy * arm * 1.4);
    }
    context.globalAlpha = 1;
  }
}

function normalsOf({ points, triangles }) {
  const normals = new Float32Array(points.length);
  for (let n = 0; n < triangles.length; n += 3) {
    const [a, b, c] = [3 * triangles[n], 3 * triangles[n + 1], 3 * triangles[n + 2]];
    const [ux, uy, uz] = [points[b] - points[a], points[b + 1] - points[a + 1], points[b + 2] - points[a + 2]];
    const [vx, vy, vz] = [points[c] - points[a], points[c + 1] - points[a + 1], points[c + 2] - points[a + 2]];
    const [x, y, z] = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
    for (const at of [a, b, c]) { normals[at] += x; normals[at + 1] += y; normals[at + 2] += z; }
  }
  for (let n = 0; n < normals.length; n += 3) {
    const length = Math.hypot(normals[n], normals[n + 1], normals[n + 2]) || 1;
    for (let axis = 0; axis < 3; axis++) normals[n + axis] /= length;
  }
  return normals;
}

// Depth, and how much a surface faces the viewer, at every pixel; parallel projection.
function rasterised({ label, points, normals, triangles }, t, scale, width, height) {
  const count = points.length / 3, depth = new Float32Array(width * height).fill(Infinity);
  const facing = new Float32Array(width * height), spot = new Float32Array(4 * count);
  for (let n = 0; n < count; n++) {
    const [x, y, z] = [points[3 * n], points[3 * n + 1], points[3 * n + 2]];
    spot[4 * n] = width / 2 + scale * (t[0] * x + t[1] * y + t[2] * z);
    spot[4 * n + 1] = height / 2 + scale * (t[3] * x + t[4] * y + t[5] * z);
    spot[4 * n + 2] = t[6] * x + t[7] * y + t[8] * z;
    spot[4 * n + 3] = -(t[6] * normals[3 * n] + t[7] * normals[3 * n + 1] + t[8] * normals[3 * n + 2]);
  }
  for (let n = 0; n < triangles.length; n += 3) {
    fillTriangle(4 * triangles[n], 4 * triangles[n + 1], 4 * triangles[n + 2], spot, depth, facing, width, height);
  }
  return { label, depth, facing };
}

function fillTriangle(a, b, c, s, depth, facing, width, height) {
  const ax = s[a], ay = s[a + 1], bx = s[b], by = s[b + 1], cx = s[c], cy = s[c + 1];
  const area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);
  if (area === 0) return;
  const left = Math.max(0, Math.ceil(Math.min(ax, bx, cx))), right = Math.min(width - 1, Math.floor(Math.max(ax, bx, cx)));
  const top = Math.max(0, Math.ceil(Math.min(ay, by, cy))), bottom = Math.min(height - 1, Math.floor(Math.max(ay, by, cy)));
  const stepB = (cy - ay) / area, stepC = (ay - by) / area; // from one pixel to the next in a row
  for (let y = top; y <= bottom; y++) {
    let wb = ((left - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area;
    let wc = ((bx - ax) * (y - ay) - (by - ay) * (left - ax)) / area;
    for (let x = left, at = y * width + left; x <= right; x++, at++, wb += stepB, wc += stepC) {
      const wa = 1 - wb - wc;
      if (wa < -1e-6 || wb < -1e-6 || wc < -1e-6) continue;
      const z = wa * s[a + 2] + wb * s[b + 2] + wc * s[c + 2];
      if (z < depth[at]) {
        depth[at] = z;
        facing[at] = wa * s[a + 3] + wb * s[b + 3] + wc * s[c + 3];
      }
    }
  }
}

// The largest label is glass, clearer where it faces the viewer and before what is solid; the others are solid.
function composite(layers, pixels) {
  const hit = new Array(layers.length);
  for (let n = 0, to = 0; to < pixels.length; n++, to += 4) {
    let hits = 0, red = 38, green = 42, blue = 50, solid = false;
    for (const layer of layers) {
      const depth = layer.depth[n];
      if (depth === Infinity) continue;
      let at = hits++;
      for (; at > 0 && hit[at - 1].depth[n] < depth; at--) hit[at] = hit[at - 1];
      hit[at] = layer; // the farthest first
    }
    for (let at = 0; at < hits; at++) {
      const { label, facing } = hit[at], [r, g, b] = label.rgb;
      const front = Math.min(1, Math.abs(facing[n])), rim = 1 - front, light = 0.35 + 0.75 * front;
      const shine = front > 0.8 ? 90 * front ** 24 : 0;
      const alpha = label.glass ? (solid ? 0.2 : 0.45) + 0.45 * rim * Math.sqrt(rim) : 1;
      red += alpha * (Math.min(255, r * light + shine) - red);
      green += alpha * (Math.min(255, g * light + shine) - green);
      blue += alpha * (Math.min(255, b * light + shine) - blue);
      solid ||= !label.glass;
    }
    [pixels[to], pixels[to + 1], pixels[to + 2], pixels[to + 3]] = [red, green, blue, 255];
  }
}
