// SPDX-License-Identifier: GPL-2.0-or-later
// Interactive view of the atoms of a cut-out or a frame on a canvas. Some thousand spheres, sorted by depth, require neither WebGL nor a
// library.
"use strict";

class ClusterView {
  // Stops of a colour scale with uniform change of lightness, readable with colour vision deficiency.
  static STOPS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

  constructor(canvas, hover) {
    this.canvas = canvas;
    this.hover = hover;
    this.sprites = new Map();
    this.colour = "gamma";
    this.buffer = true;
    this.reset();
    let from = null;
    canvas.addEventListener("pointerdown", (e) => {
      from = [e.clientX, e.clientY];
      canvas.setPointerCapture(e.pointerId);
      this.hover.hidden = true;
    });
    canvas.addEventListener("pointermove", (e) => {
      if (from === null) return this.showAtom(e);
      this.turn((e.clientX - from[0]) * 0.01, (e.clientY - from[1]) * 0.01);
      from = [e.clientX, e.clientY];
    });
    const end = () => { from = null; };
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", end);
    canvas.addEventListener("pointerleave", () => { this.hover.hidden = true; });
    canvas.addEventListener("wheel", (e) => {
      // Do not zoom while the page is scrolled.
      if (document.activeElement !== canvas && !e.ctrlKey) return;
      e.preventDefault();
      this.scaleBy(Math.exp(-e.deltaY * 0.001));
    }, { passive: false });
    canvas.addEventListener("keydown", (e) => {
      const turns = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
      if (turns[e.key]) this.turn(...turns[e.key]);
      else if (e.key === "+") this.scaleBy(1.1);
      else if (e.key === "-") this.scaleBy(1 / 1.1);
      else return;
      e.preventDefault();
    });
    canvas.addEventListener("dblclick", () => { this.reset(); this.draw(); });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  reset() {
    this.zoom = 1;
    this.axes = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
    this.turn(0.5, 0.35, true);
  }

  // Rotates by an angle (rad) about the vertical and about the horizontal axis of the screen.
  turn(across, down, quietly) {
    const [c, s, d, t] = [Math.cos(across), Math.sin(across), Math.cos(down), Math.sin(down)];
    this.axes = this.axes.map(([x, y, z]) => {
      const [u, w] = [c * x + s * z, c * z - s * x];
      return [u, d * y - t * w, t * y + d * w];
    });
    if (!quietly) this.draw();
  }

  // The direction of view and the zoom, to be set again.
  get state() {
    return { zoom: this.zoom, axes: this.axes };
  }

  set state({ zoom, axes }) {
    [this.zoom, this.axes] = [zoom, axes];
    this.draw();
  }

  scaleBy(factor) {
    this.zoom = Math.min(6, Math.max(0.4, this.zoom * factor));
    this.draw();
  }

  // Shows the picture of a candidate; `most` is the γ at the upper end of the scale.
  show(candidate, most) {
    this.candidate = candidate;
    this.most = most;
    this.draw();
  }

  static scale(x) {
    const at = Math.min(0.9999, Math.max(0, x)) * (ClusterView.STOPS.length - 1);
    const k = Math.floor(at);
    const mix = ClusterView.STOPS[k].map((v, i) => Math.round(v + (at - k) * (ClusterView.STOPS[k + 1][i] - v)));
    return `rgb(${mix})`;
  }

  colourOf(i) {
    const p = this.candidate.picture;
    if (this.colour === "element") return p.elements[p.element[i]][1];
    if (this.colour === "mask") return p.core[i] ? "#e07a3f" : "#8fa3b0";
    if (!p.gamma) return "#8fa3b0";
    // In steps, so that each colour is drawn once.
    return p.gamma[i] === null ? "#ff00ff" : ClusterView.scale(Math.round((96 * p.gamma[i]) / this.most) / 96);
  }

  // A shaded sphere, cached for each colour.
  sprite(colour) {
    let sprite = this.sprites.get(colour);
    if (!sprite) {
      sprite = document.createElement("canvas");
      sprite.width = sprite.height = 96;
      const ctx = sprite.getContext("2d");
      ctx.beginPath();
      ctx.arc(48, 48, 46, 0, 2 * Math.PI);
      ctx.fillStyle = colour;
      ctx.fill();
      const light = ctx.createRadialGradient(34, 32, 4, 48, 48, 47);
      light.addColorStop(0, "rgba(255,255,255,0.65)");
      light.addColorStop(0.35, "rgba(255,255,255,0.08)");
      light.addColorStop(0.8, "rgba(0,0,0,0.18)");
      light.addColorStop(1, "rgba(0,0,0,0.5)");
      ctx.fillStyle = light;
      ctx.fill();
      if (this.sprites.size > 400) this.sprites.clear();
      this.sprites.set(colour, sprite);
    }
    return sprite;
  }

  draw() {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const ctx = canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    this.drawn = [];
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink"), soft = style.getPropertyValue("--soft");
    const p = this.candidate && this.candidate.picture;
    if (!p) {
      ctx.fillStyle = soft;
      ctx.font = "13px system-ui, sans-serif";
      ctx.textAlign = "center";
      if (this.candidate) ctx.fillText("no picture: only the candidates with the largest γ have one", width / 2, height / 2);
      return;
    }
    const corner = (a, b, c) => [0, 1, 2].map((k) => p.origin[k] + a * p.cell[0][k] + b * p.cell[1][k] + c * p.cell[2][k]);
    const middle = corner(0.5, 0.5, 0.5);
    const corners = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => corner(n & 1, (n >> 1) & 1, (n >> 2) & 1));
    const far = Math.max(...corners.map((c) => Math.hypot(c[0] - middle[0], c[1] - middle[1], c[2] - middle[2])));
    const unit = (0.44 * Math.min(width, height) * this.zoom) / far;
    const [ax, ay, az] = [0, 1, 2].map((k) => this.axes.map((row) => row[k]));
    const dot = (v, axis) => v[0] * axis[0] + v[1] * axis[1] + v[2] * axis[2];
    // Projection with perspective: x to the right, y upwards, depth towards the viewer.
    const place = (x, y, z) => {
      const v = [x - middle[0], y - middle[1], z - middle[2]];
      const depth = dot(v, az);
      const nearer = 1 / (1 - depth / (8 * far));
      return [width / 2 + unit * nearer * dot(v, ax), height / 2 - unit * nearer * dot(v, ay), depth, unit * nearer];
    };
    ctx.strokeStyle = soft;
    ctx.globalAlpha = 0.7;
    for (let n = 0; n < 8; n++) {
      for (const bit of [1, 2, 4]) {
        if (n & bit) continue;
        const [a, b] = [place(...corners[n]), place(...corners[n | bit])];
        ctx.beginPath();
        ctx.moveTo(a[0], a[1]);
        ctx.lineTo(b[0], b[1]);
        ctx.stroke();
      }
    }
    const atoms = [];
    for (let i = 0; i < p.core.length; i++) {
      if (!this.buffer && !p.core[i]) continue;
      const [x, y, depth, size] = place(p.positions[3 * i], p.positions[3 * i + 1], p.positions[3 * i + 2]);
      atoms.push({ i, x, y, depth, r: size * p.elements[p.element[i]][2] * (p.core[i] ? 0.62 : 0.38) });
    }
    atoms.sort((a, b) => a.depth - b.depth);
    for (const atom of atoms) {
      ctx.globalAlpha = p.core[atom.i] ? 1 : 0.45;
      ctx.drawImage(this.sprite(this.colourOf(atom.i)), atom.x - atom.r, atom.y - atom.r, 2 * atom.r, 2 * atom.r);
      if (atom.i === this.candidate.center) {
        ctx.globalAlpha = 1;
        ctx.lineWidth = 2.5;
        ctx.strokeStyle = ink;
        ctx.beginPath();
        ctx.arc(atom.x, atom.y, atom.r + 2, 0, 2 * Math.PI);
        ctx.stroke();
        ctx.lineWidth = 1;
      }
    }
    // Mark the centre, which may be hidden by other atoms.
    const centre = atoms.find((atom) => atom.i === this.candidate.center);
    if (centre) {
      ctx.globalAlpha = 0.6;
      ctx.setLineDash([3, 3]);
      ctx.strokeStyle = ink;
      ctx.beginPath();
      ctx.arc(centre.x, centre.y, centre.r + 6, 0, 2 * Math.PI);
      ctx.stroke();
      ctx.setLineDash([]);
    }
    ctx.globalAlpha = 1;
    this.drawn = atoms;
  }

  // Shows the id, element and γ of the atom under the pointer.
  showAtom(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const hit = (this.drawn || []).findLast((atom) => Math.hypot(atom.x - x, atom.y - y) < atom.r);
    this.hover.hidden = !hit;
    if (!hit) return;
    const p = this.candidate.picture;
    const gamma = p.gamma ? `, γ ${p.gamma[hit.i] === null ? "not finite" : p.gamma[hit.i].toFixed(3)}` : "";
    const role = this.candidate.whole ? "" : hit.i === this.candidate.center ? ", centre" : p.core[hit.i] ? ", core" : ", buffer";
    this.hover.textContent = `${p.elements[p.element[hit.i]][0]} ${p.ids[hit.i]}${role}${gamma}`;
    this.hover.style.left = `${Math.min(x + 12, box.width - 150)}px`;
    this.hover.style.top = `${y + 12}px`;
  }

  // Draws the colour scale of γ with the threshold.
  legend(canvas, high) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = 180 * ratio;
    canvas.height = 34 * ratio;
    const ctx = canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    canvas.hidden = this.colour !== "gamma" || !this.candidate.picture || !this.candidate.picture.gamma;
    for (let k = 0; k < 160; k++) {
      ctx.fillStyle = ClusterView.scale(k / 160);
      ctx.fillRect(10 + k, 4, 1.2, 10);
    }
    ctx.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--ink");
    ctx.font = "11px system-ui, sans-serif";
    ctx.textAlign = "left";
    ctx.fillText("γ  0", 10, 28);
    ctx.textAlign = "right";
    ctx.fillText(this.most.toPrecision(3), 170, 28);
    if (high && high < this.most * 0.9 && high > this.most * 0.15) {
      ctx.textAlign = "center";
      const x = 10 + (160 * high) / this.most;
      ctx.fillRect(x - 0.5, 2, 1, 14);
      ctx.fillText(String(high), x, 28);
    }
  }
}
