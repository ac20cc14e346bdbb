"use strict";
// Voxels as the page carries them. Indices count the volume's own voxels, turned so that the slice
// index grows toward the feet, the row toward posterior and the column toward the patient's left.

async function inflated(id) {
  const text = document.getElementById(id).textContent;
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function sumAlongRows(bytes, columns) {
  for (let n = 0; n < bytes.length; n++) if (n % columns) bytes[n] = (bytes[n] + bytes[n - 1]) & 255;
  return bytes;
}

class Grid {
  constructor({ shape, factors, offset }, bytes) {
    Object.assign(this, { shape, factors, offset, bytes });
    this.strides = [shape[1] * shape[2], shape[2], 1];
  }

  // Index into the data along one axis, or -1 outside.
  along(axis, index) {
    const n = Math.floor((index - this.offset[axis]) / this.factors[axis]);
    return n >= 0 && n < this.shape[axis] ? n : -1;
  }

  at(voxel) {
    let place = 0;
    for (let axis = 0; axis < 3; axis++) {
      const n = this.along(axis, voxel[axis]);
      if (n < 0) return 0;
      place += n * this.strides[axis];
    }
    return this.bytes[place];
  }

  // The values of one plane; null where the grid does not reach.
  plane({ fixed, down, across }, index) {
    const n = this.along(fixed, index);
    if (n < 0) return null;
    const height = this.shape[down], width = this.shape[across];
    const [stepDown, stepAcross] = [this.strides[down], this.strides[across]];
    const values = new Uint8Array(height * width);
    for (let row = 0, to = 0; row < height; row++) {
      let from = n * this.strides[fixed] + row * stepDown;
      for (let column = 0; column < width; column++, from += stepAcross) values[to++] = this.bytes[from];
    }
    return { values, height, width };
  }
}
