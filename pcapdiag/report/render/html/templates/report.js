"use strict";
(() => {
  const NS = "http://www.w3.org/2000/svg";
  const MOST = 400;
  const REACH = 34;
  const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5,
    36e5, 72e5, 216e5, 432e5, 864e5, 1728e5, 6048e5];

  function element(name, attributes, parent) {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (parent) parent.append(made);
    return made;
  }

  function timeText(ms, step) {
    const iso = new Date(ms).toISOString();
    if (step >= 864e5) return iso.slice(5, 10);
    return iso.slice(11, step < 1e3 ? 23 : step < 6e4 ? 19 : 16);
  }

  function secondsText(s) {
    const [number, unit] = s >= 1 ? [s, "s"] : s >= 1e-3 ? [s * 1e3, "ms"] : [s * 1e6, "us"];
    return Number(number.toPrecision(6)) + " " + unit;
  }

  function spread(low, high, most) {
    const raw = (high - low) / most;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((n) => n * power >= raw);
    const ticks = [];
    for (let n = Math.ceil(low / step); n * step <= high; n += 1) ticks.push(n * step);
    return ticks;
  }

  // Where ticks go: pairs of a fraction of the axis and a text, for the part [from, to] of it that is in view.
  function ticksOf([kind, low, high], from, to, most) {
    if (kind === "time") {
      const [a, b] = [low + from * (high - low), low + to * (high - low)];
      const step = STEPS.find((s) => (b - a) / s <= most) || STEPS[STEPS.length - 1];
      const ticks = [];
      for (let t = Math.ceil(a / step) * step; t <= b && ticks.length < 50; t += step) {
        ticks.push([(t - low) / (high - low), timeText(t, step)]);
      }
      return ticks;
    }
    if (kind !== "log") return [];
    const [l, h] = [Math.log10(low), Math.log10(high)];
    const [a, b] = [l + from * (h - l), l + to * (h - l)];
    let values = [];
    for (let n = Math.floor(a); n <= b; n += 1) for (const m of [1, 2, 5]) values.push(m * 10 ** n);
    values = values.filter((v) => Math.log10(v) >= a && Math.log10(v) <= b);
    if (values.length > most) values = values.filter((v) => Math.abs(Math.log10(v) % 1) < 1e-9);
    if (values.length < 3) values = spread(10 ** a, 10 ** b, most);
    return values.filter((v) => v > 0).map((v) => [(Math.log10(v) - l) / (h - l), secondsText(v)]);
  }

  // One drawing of a chart (there is one for pages and one for telephones): moves its marks and its ticks.
  class Drawing {
    constructor(svg, [left, top, width, height], data, name) {
      Object.assign(this, { svg, left, top, width, height, data });
      this.both = data.y[0] === "log";
      const clip = element("clipPath", { id: name }, element("defs", {}, svg));
      element("rect", { x: 0, y: 0, width, height }, clip);
      const marks = [...svg.querySelectorAll(".role-mark")];
      if (!marks.length) return;
      this.groups = marks;
      const box = element("g", {});
      marks[0].before(box);
      box.append(...marks);
      this.box = box;
      this.clip = "url(#" + name + ")";
      this.upright = marks.filter((g) => /mark-(symbol|text)/.test(g.getAttribute("class"))).flatMap((g) => [...g.children]);
      this.at = this.upright.map((e) => e.getAttribute("transform") || "");
      this.axes = [...svg.querySelectorAll(".role-axis")].filter((g) => this.both || this.isBelow(g));
      const over = element("g", { transform: "translate(" + left + "," + top + ")" }, svg);
      this.ticks = element("g", { class: "ticks" }, over);
      this.ring = element("circle", { class: "ring", r: 8, visibility: "hidden" }, over);
      this.brush = element("rect", { class: "brush", visibility: "hidden" }, over);
    }

    isBelow(axis) {
      const inner = axis.firstElementChild && axis.firstElementChild.getAttribute("transform");
      const place = /,\s*([\d.]+)\)/.exec(inner || "");
      return place !== null && Number(place[1]) > 1;
    }

    show(view) {
      if (!this.groups) return;
      const kx = 1 / (view.x1 - view.x0);
      const ky = 1 / (view.y1 - view.y0);
      const isWhole = kx === 1 && ky === 1;
      const move = "translate(" + -view.x0 * kx * this.width + "," + -view.y0 * ky * this.height + ") scale(" + kx + "," + ky + ")";
      for (const group of this.groups) group.setAttribute("transform", isWhole ? "" : move);
      this.upright.forEach((e, n) => e.setAttribute("transform", isWhole ? this.at[n] : this.at[n] + " scale(" + 1 / kx + "," + 1 / ky + ")"));
      if (isWhole) this.box.removeAttribute("clip-path");
      else this.box.setAttribute("clip-path", this.clip);
      for (const axis of this.axes) axis.setAttribute("display", isWhole ? "inline" : "none");
      this.ticks.replaceChildren();
      if (isWhole) return;
      for (const [f, text] of ticksOf(this.data.x, view.x0, view.x1, this.width < 400 ? 3 : 6)) {
        const x = (f - view.x0) * kx * this.width;
        element("line", { x1: x, x2: x, y1: this.height, y2: this.height + 5 }, this.ticks);
        element("text", { x, y: this.height + 18, "text-anchor": "middle" }, this.ticks).textContent = text;
      }
      if (!this.both) return;
      for (const [f, text] of ticksOf(this.data.y, 1 - view.y1, 1 - view.y0, 6)) {
        const y = (1 - f - view.y0) * ky * this.height;
        element("line", { x1: -5, x2: 0, y1: y, y2: y }, this.ticks);
        element("text", { x: -8, y: y + 4, "text-anchor": "end" }, this.ticks).textContent = text;
      }
    }

    // From a place in the window to a place in the plot, in pixels of the drawing.
    place(event) {
      const box = this.svg.getBoundingClientRect();
      const scale = box.width / (this.left + this.width + 14);
      return [(event.clientX - box.left) / scale - this.left, (event.clientY - box.top) / scale - this.top, scale];
    }

    mark(x, y) {
      if (!this.ring) return;
      this.ring.setAttribute("visibility", x === null ? "hidden" : "visible");
      if (x === null) return;
      this.ring.setAttribute("cx", x);
      this.ring.setAttribute("cy", y);
    }
  }

  class Chart {
    constructor(figure) {
      const name = figure.dataset.chart;
      this.data = JSON.parse(document.getElementById("data-" + name).textContent);
      this.plot = figure.querySelector(".plot");
      this.tip = figure.querySelector(".tip");
      this.tools = figure.querySelector(".tools");
      this.drawings = [...figure.querySelectorAll("svg")].map((svg, n) =>
        new Drawing(svg, this.data.plots[n], this.data, "clip-" + name + "-" + n));
      this.order = this.data.tips.map((_, n) => n).sort((a, b) => this.data.tips[a][0] - this.data.tips[b][0]);
      this.active = -1;
      this.plot.tabIndex = 0;
      this.plot.setAttribute("role", "application");
      this.plot.setAttribute("aria-label", "Chart: arrow keys step through its marks, plus and minus zoom, 0 resets");
      this.tools.hidden = false;
      this.reset();
      this.listen();
    }

    listen() {
      this.tools.addEventListener("click", (event) => {
        const what = event.target.dataset.do;
        if (what) this.run(what);
      });
      this.plot.addEventListener("keydown", (event) => {
        const what = { "+": "in", "=": "in", "-": "out", "0": "reset", Escape: "hide", ArrowRight: "next", ArrowLeft: "before" }[event.key];
        if (!what || event.ctrlKey || event.metaKey || event.altKey) return;
        event.preventDefault();
        this.run(what);
      });
      this.plot.addEventListener("pointermove", (event) => this.hover(event));
      this.plot.addEventListener("pointerleave", () => this.say(-1));
      this.plot.addEventListener("pointerdown", (event) => this.press(event));
      this.plot.addEventListener("pointerup", (event) => this.release(event));
      this.plot.addEventListener("pointercancel", () => { this.start = null; });
      this.plot.addEventListener("dblclick", () => this.run("reset"));
      this.plot.addEventListener("blur", () => this.say(-1));
    }

    // The drawing that is on the screen.
    get drawing() {
      return this.drawings.find((d) => d.svg.getClientRects().length) || this.drawings[0];
    }

    reset() {
      this.look({ x0: 0, x1: 1, y0: 0, y1: 1 });
    }

    look(view) {
      this.view = view;
      for (const drawing of this.drawings) drawing.show(view);
      const width = view.x1 - view.x0;
      const can = { out: width < 1 || view.y1 - view.y0 < 1, reset: width < 1 || view.y1 - view.y0 < 1, left: view.x0 > 0, right: view.x1 < 1, in: width > 1 / MOST };
      for (const button of this.tools.querySelectorAll("button")) button.disabled = !can[button.dataset.do];
      if (this.active >= 0) this.say(this.active);
    }

    run(what) {
      if (what === "reset") this.reset();
      else if (what === "hide") this.say(-1);
      else if (what === "in" || what === "out") this.zoom(what === "in" ? 0.5 : 2);
      else if (what === "left" || what === "right") this.pan(what === "left" ? -0.5 : 0.5);
      else this.step(what === "next" ? 1 : -1);
    }

    zoom(factor) {
      const { x0, x1, y0, y1 } = this.view;
      const tip = this.data.tips[this.active];
      const [cx, cy] = tip ? [tip[0], tip[1]] : [(x0 + x1) / 2, (y0 + y1) / 2];
      const part = (c, a, b) => {
        const size = Math.min((b - a) * factor, 1);
        const from = Math.min(Math.max(c - size / 2, 0), 1 - size);
        return [from, from + size];
      };
      const [a, b] = part(cx, x0, x1);
      const [c, d] = this.drawing.both ? part(cy, y0, y1) : [0, 1];
      if (b - a >= 1 / MOST) this.look({ x0: a, x1: b, y0: c, y1: d });
    }

    pan(part) {
      const { x0, x1, y0, y1 } = this.view;
      const move = Math.min(Math.max((x1 - x0) * part, -x0), 1 - x1);
      this.look({ x0: x0 + move, x1: x1 + move, y0, y1 });
    }

    step(by) {
      const inView = this.order.filter((n) => this.isInView(this.data.tips[n]));
      if (!inView.length) return;
      const now = inView.indexOf(this.active);
      const next = now < 0 ? (by > 0 ? 0 : inView.length - 1) : (now + by + inView.length) % inView.length;
      this.say(inView[next]);
    }

    isInView([x, y]) {
      const { x0, x1, y0, y1 } = this.view;
      return x >= x0 && x <= x1 && y >= y0 && y <= y1;
    }

    // Where a mark is now, in pixels of the drawing's plot.
    spot([x, y]) {
      const { x0, x1, y0, y1 } = this.view;
      const { width, height } = this.drawing;
      return [(x - x0) / (x1 - x0) * width, (y - y0) / (y1 - y0) * height];
    }

    hover(event) {
      const [x, y, scale] = this.drawing.place(event);
      if (this.start) {
        this.stretch(x, y);
        return;
      }
      let best = REACH / scale;
      let found = -1;
      this.data.tips.forEach((tip, n) => {
        if (!this.isInView(tip)) return;
        const [a, b] = this.spot(tip);
        const away = Math.abs(a - x) + Math.abs(b - y) * (this.drawing.both ? 1 : 0.4);
        if (away < best) [best, found] = [away, n];
      });
      this.say(found);
    }

    say(n) {
      this.active = n;
      const tip = this.data.tips[n];
      this.tip.classList.toggle("on", Boolean(tip) && this.isInView(tip));
      if (!tip || !this.isInView(tip)) {
        for (const drawing of this.drawings) drawing.mark(null, null);
        return;
      }
      const drawing = this.drawing;
      const [x, y] = this.spot(tip);
      drawing.mark(x, y);
      if (this.tip.textContent !== tip[2]) this.tip.textContent = tip[2];
      const box = this.plot.getBoundingClientRect();
      const scale = drawing.svg.getBoundingClientRect().width / (drawing.left + drawing.width + 14);
      const left = (x + drawing.left) * scale;
      this.tip.style.left = Math.max(Math.min(left + 12, box.width - this.tip.offsetWidth), 0) + "px";
      const top = (y + drawing.top) * scale;
      this.tip.style.top = (top > this.tip.offsetHeight + 16 ? top - this.tip.offsetHeight - 12 : top + 16) + "px";
    }

    press(event) {
      if (event.pointerType === "touch" || event.button !== 0) return;
      const [x, y] = this.drawing.place(event);
      this.start = [x, y];
      this.plot.setPointerCapture(event.pointerId);
    }

    stretch(x, y) {
      const { brush, width, height, both } = this.drawing;
      const [a, b] = [Math.min(x, this.start[0]), Math.max(x, this.start[0])];
      const [c, d] = both ? [Math.min(y, this.start[1]), Math.max(y, this.start[1])] : [0, height];
      const box = [Math.max(a, 0), Math.max(c, 0), Math.min(b, width), Math.min(d, height)];
      this.area = box;
      brush.setAttribute("x", box[0]);
      brush.setAttribute("y", box[1]);
      brush.setAttribute("width", Math.max(box[2] - box[0], 0));
      brush.setAttribute("height", Math.max(box[3] - box[1], 0));
      brush.setAttribute("visibility", "visible");
    }

    release() {
      const { brush, width, height } = this.drawing;
      brush.setAttribute("visibility", "hidden");
      const area = this.area;
      this.start = this.area = null;
      if (!area || area[2] - area[0] < 8) return;
      const { x0, x1, y0, y1 } = this.view;
      const isFlat = area[3] - area[1] < 8;
      const next = {
        x0: x0 + area[0] / width * (x1 - x0),
        x1: x0 + area[2] / width * (x1 - x0),
        y0: isFlat ? y0 : y0 + area[1] / height * (y1 - y0),
        y1: isFlat ? y1 : y0 + area[3] / height * (y1 - y0),
      };
      if (next.x1 - next.x0 >= 1 / MOST) this.look(next);
    }
  }

  for (const figure of document.querySelectorAll("figure[data-chart]")) new Chart(figure);
})();
