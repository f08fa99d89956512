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

  // Where ticks of a time axis go: pairs of a fraction of the axis and a text, for the part [from, to] that is in view.
  function ticksOf([, low, high], from, to, most) {
    const [a, b] = [low + from * (high - low), low + to * (high - low)];
    const step = STEPS.find((s) => (b - a) / s <= most) || STEPS[STEPS.length - 1];
    const ticks = [];
    for (let t = Math.ceil(a / step) * step; t <= b && ticks.length < 50; t += step) {
      ticks.push([(t - low) / (high - low), timeText(t, step)]);
    }
    return ticks;
  }

  // One drawing of a chart (there is one for pages and one for telephones): moves its marks and its ticks.
  class Drawing {
    constructor(svg, [left, top, width, height], data, name) {
      Object.assign(this, { svg, left, top, width, height, data });
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
      this.axes = [...svg.querySelectorAll(".role-axis")].filter((g) => this.isBelow(g));
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
      const isWhole = kx === 1;
      const move = "translate(" + -view.x0 * kx * this.width + ",0) scale(" + kx + ",1)";
      for (const group of this.groups) group.setAttribute("transform", isWhole ? "" : move);
      this.upright.forEach((e, n) => e.setAttribute("transform", isWhole ? this.at[n] : this.at[n] + " scale(" + 1 / kx + ",1)"));
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
      this.plot.setAttribute("aria-label", "Chart: arrow keys step through its marks, Enter goes to its row" +
        (this.tools ? ", plus and minus zoom, 0 resets" : ""));
      if (this.tools) this.tools.hidden = false;
      this.zooms = this.data.x[0] === "time";
      this.reset();
      this.listen();
    }

    listen() {
      if (this.tools) {
        this.tools.addEventListener("click", (event) => {
          const what = event.target.dataset.do;
          if (what) this.run(what);
        });
      }
      this.plot.addEventListener("keydown", (event) => {
        const what = { "+": "in", "=": "in", "-": "out", "0": "reset", Enter: "go", Escape: "hide", ArrowRight: "next", ArrowLeft: "before" }[event.key];
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
      this.look({ x0: 0, x1: 1 });
    }

    look(view) {
      this.view = view;
      for (const drawing of this.drawings) drawing.show(view);
      const width = view.x1 - view.x0;
      const can = { out: width < 1, reset: width < 1, left: view.x0 > 0, right: view.x1 < 1, in: width > 1 / MOST };
      for (const button of this.tools ? this.tools.querySelectorAll("button") : []) button.disabled = !can[button.dataset.do];
      if (this.active >= 0) this.say(this.active);
    }

    run(what) {
      if (what === "go") this.go();
      else if (what === "reset") this.reset();
      else if (what === "hide") this.say(-1);
      else if (what === "in" || what === "out") this.zoom(what === "in" ? 0.5 : 2);
      else if (what === "left" || what === "right") this.pan(what === "left" ? -0.5 : 0.5);
      else this.step(what === "next" ? 1 : -1);
    }

    go() {
      const tip = this.data.tips[this.active];
      if (tip && tip[3]) open(tip[3]);
    }

    zoom(factor) {
      if (!this.zooms) return;
      const { x0, x1 } = this.view;
      const tip = this.data.tips[this.active];
      const center = tip ? tip[0] : (x0 + x1) / 2;
      const size = Math.min((x1 - x0) * factor, 1);
      const from = Math.min(Math.max(center - size / 2, 0), 1 - size);
      if (size >= 1 / MOST) this.look({ x0: from, x1: from + size });
    }

    pan(part) {
      const { x0, x1 } = this.view;
      const move = Math.min(Math.max((x1 - x0) * part, -x0), 1 - x1);
      this.look({ x0: x0 + move, x1: x1 + move });
    }

    step(by) {
      const inView = this.order.filter((n) => this.isInView(this.data.tips[n]));
      if (!inView.length) return;
      const now = inView.indexOf(this.active);
      const next = now < 0 ? (by > 0 ? 0 : inView.length - 1) : (now + by + inView.length) % inView.length;
      this.say(inView[next]);
    }

    isInView([x]) {
      return x >= this.view.x0 && x <= this.view.x1;
    }

    // Where a mark is now, in pixels of the drawing's plot.
    spot([x, y]) {
      const { x0, x1 } = this.view;
      const { width, height } = this.drawing;
      return [(x - x0) / (x1 - x0) * width, y * height];
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
        const away = Math.abs(a - x) + Math.abs(b - y);
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
      this.plot.classList.toggle("leads", Boolean(tip[3]));
      const box = this.plot.getBoundingClientRect();
      const scale = drawing.svg.getBoundingClientRect().width / (drawing.left + drawing.width + 14);
      const left = (x + drawing.left) * scale;
      this.tip.style.left = Math.max(Math.min(left + 12, box.width - this.tip.offsetWidth), 0) + "px";
      const top = (y + drawing.top) * scale;
      this.tip.style.top = (top > this.tip.offsetHeight + 16 ? top - this.tip.offsetHeight - 12 : top + 16) + "px";
    }

    press(event) {
      if (event.pointerType === "touch" || event.button !== 0) return;
      this.area = null;
      const [x, y] = this.drawing.place(event);
      this.start = [x, y];
      this.plot.setPointerCapture(event.pointerId);
    }

    stretch(x) {
      if (!this.zooms) return;
      const { brush, width, height } = this.drawing;
      const [a, b] = [Math.max(Math.min(x, this.start[0]), 0), Math.min(Math.max(x, this.start[0]), width)];
      this.area = [a, b];
      for (const [name, value] of [["x", a], ["y", 0], ["width", Math.max(b - a, 0)], ["height", height]]) {
        brush.setAttribute(name, value);
      }
      brush.setAttribute("visibility", "visible");
    }

    release() {
      const { brush, width } = this.drawing;
      if (brush) brush.setAttribute("visibility", "hidden");
      const area = this.area;
      this.start = this.area = null;
      if (!area || area[1] - area[0] < 8) {
        this.go();
        return;
      }
      const { x0, x1 } = this.view;
      const next = { x0: x0 + area[0] / width * (x1 - x0), x1: x0 + area[1] / width * (x1 - x0) };
      if (next.x1 - next.x0 >= 1 / MOST) this.look(next);
    }
  }

  // Shows the row of an occurrence, opened, whatever the filter of its table hides.
  function open(id) {
    const row = document.getElementById(id);
    if (!row || row.tagName !== "TBODY") return;
    if (row.hidden) {
      const find = row.closest("table").find;
      find.value = "";
      find.dispatchEvent(new Event("input"));
    }
    show(row, true);
    if (location.hash !== "#" + id) history.pushState(null, "", "#" + id);
    for (const other of document.querySelectorAll("tbody.here")) other.classList.remove("here");
    row.classList.add("here");
    row.scrollIntoView({ block: "center" });
    const link = row.querySelector("a");
    if (link) link.focus({ preventScroll: true });
  }

  function show(row, isOpen) {
    const more = row.querySelector(".more");
    const link = row.querySelector("a");
    if (!more) return;
    more.hidden = !isOpen;
    const details = more.querySelector("details");
    if (details) details.open = isOpen;
    if (link) link.setAttribute("aria-expanded", String(isOpen));
  }

  function prepareEvents(table) {
    for (const row of table.tBodies) {
      show(row, false);
      row.rows[0].addEventListener("click", (event) => {
        event.preventDefault();
        const more = row.querySelector(".more");
        if (more && !more.hidden) show(row, false);
        else open(row.id);
      });
    }
  }

  // What is sorted and found: groups of rows where each stands for an occurrence, else rows.
  const unitsOf = (table) => (table.classList.contains("events") ? [...table.tBodies] : [...table.tBodies[0].rows]);
  const cellOf = (unit, n) => (unit.rows ? unit.rows[0] : unit).cells[n];
  const keyOf = (cell) => cell.dataset.v || cell.textContent.trim();

  function compare(a, b) {
    const [x, y] = [a, b].map((text) => Number(text.replaceAll(",", "")));
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  }

  function makeSorting(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, n) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const isUp = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", isUp ? "descending" : "ascending");
        const units = unitsOf(table);
        const place = units[0].parentNode;
        units.sort((a, b) => compare(keyOf(cellOf(a, n)), keyOf(cellOf(b, n))) * (isUp ? -1 : 1));
        place.append(...units);
      });
    });
  }

  function makeFinding(table) {
    const label = document.createElement("label");
    const find = document.createElement("input");
    const said = document.createElement("output");
    find.type = "search";
    label.className = "find";
    label.append("Find in these rows ", find, " ", said);
    table.closest(".scroll").before(label);
    table.find = find;
    find.addEventListener("input", () => {
      const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      const units = unitsOf(table);
      for (const unit of units) {
        const text = (unit.rows ? unit.rows[0] : unit).textContent.toLowerCase();
        unit.hidden = !words.every((word) => text.includes(word));
      }
      said.textContent = words.length ? units.filter((unit) => !unit.hidden).length + " of " + units.length : "";
    });
  }

  // The lines of a patch as a diff has them; everything else as it stands there.
  function textOf(element) {
    if (element.tagName !== "FIGURE") return element.textContent;
    const lines = ["# " + element.querySelector("figcaption").firstChild.textContent.trim()];
    for (const part of element.querySelectorAll(".place, del, ins")) {
      if (part.className === "place") lines.push("# " + part.textContent.trim());
      else lines.push((part.tagName === "DEL" ? "-" : "+") + part.lastChild.textContent);
    }
    return lines.join("\n") + "\n";
  }

  async function copy(button, element) {
    const text = textOf(element);
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Where a page may not write to the clipboard, what is to be copied is at least selected.
      getSelection().selectAllChildren(element);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }

  function makeCopying(element) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copies";
    button.textContent = "Copy";
    button.setAttribute("aria-label", "Copy " + (element.dataset.what || (element.tagName === "FIGURE" ? "the patch" : "the filter")));
    button.addEventListener("click", () => copy(button, element));
    if (element.tagName === "FIGURE") element.querySelector("figcaption").append(button);
    else element.after(button);
  }

  for (const element of document.querySelectorAll(".copy, figure.diff")) makeCopying(element);
  for (const table of document.querySelectorAll("table.events")) prepareEvents(table);
  for (const table of document.querySelectorAll("table.sorts")) makeSorting(table);
  for (const table of document.querySelectorAll("table.finds")) makeFinding(table);
  for (const figure of document.querySelectorAll("figure[data-chart]")) new Chart(figure);
  const follow = () => open(decodeURIComponent(location.hash.slice(1)));
  addEventListener("hashchange", follow);
  follow();
})();
