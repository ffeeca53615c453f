"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const images = data.images;
  const byId = (id) => document.getElementById(id);
  const [list, box, frame, blend] = ["list", "box", "frame", "blend"].map(byId);

  const FAILURES = ["failed", "zero", "nonfinite"];
  const WORDS = {
    done: "Done",
    failed: "Failed",
    zero: "Zero map",
    nowhere: "Not found",
    nonfinite: "Not finite",
    missing: "No picture",
  };
  const GONE = {
    gone: "The image is no longer there",
    changed: "The image has changed since",
    unchecked: "The image was not compared with the one that was explained",
    failed: "The image could not be explained",
    page: "It is one page of its file, and no browser shows a page alone",
  };
  const PANEL = data.styles.findIndex((style) => style.name === "panel");
  const ALL = -1;
  const GAP = 24; // pixels between two cards
  const MIXED = 60; // percent of the map when the lightbox opens
  const STEP = 10; // percent that one key press moves the blend

  // ---- what an image has

  /** Pictures of each set by "mode,style,target": [place among the scales, end of the name]. */
  const sets = data.sets.map(
    (set) => new Map(set.map(([mode, style, target, suffix], i) => [`${mode},${style},${target}`, [i, suffix]])),
  );
  const address = (image) => image.url ?? image.name;
  const sourceOf = (image) => (image.gone ? null : data.folders[image.folder][1] + address(image));
  const givenName = (image) => data.folders[image.folder][0] + image.name;
  const isFailure = (image) => FAILURES.includes(image.status);
  const isBare = (image) => isFailure(image) && image.set === undefined; // a message is all there is to show
  const statusOf = (image) => (image.status === "written" || image.status === "current" ? "done" : image.status);

  function pictureOf(image, mode, style, target) {
    if (image.set === undefined) return null;
    const found = sets[image.set].get(`${style === PANEL ? ALL : mode},${style},${target}`);
    return found ? { url: address(image) + found[1], scale: image.scales[found[0]] } : null;
  }

  function targetOf(image, target) {
    const found = image.targets?.[target];
    if (!found) return null;
    const [known, rank, score, output] = found;
    const [index, label] = data.classes[known];
    // Where the score is what feeds a final softmax or sigmoid, the output is a probability.
    const probable = output !== null && output >= 0 && output <= 1 && Math.abs(output - score) > 1e-6;
    return { known, index, rank, score, label: label || (index < 0 ? "" : `class ${index}`), probability: probable ? output : null };
  }

  // ---- words and numbers

  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const plain = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
  const count = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

  function number(value) {
    if (value === null || value === undefined) return "\u2013";
    const text = value && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e6) ? value.toExponential(3) : plain.format(value);
    return text.replaceAll("-", "\u2212");
  }

  function percent(share) {
    if (share > 0.999) return "> 99.9\u00a0%";
    if (share < 0.001 && share > 0) return "< 0.1\u00a0%";
    return `${(100 * share).toFixed(1)}\u00a0%`;
  }

  function moment(text) {
    const time = new Date(text);
    return isNaN(time) ? text : time.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  }

  // ---- elements; every text goes in as text, never as HTML

  function make(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in node) node[name] = value;
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  /** An <img>, or the words `missing` in its place where the browser cannot show it (a TIFF, a file that is gone). */
  function imageOf(url, alt, missing, properties = {}) {
    const img = make("img", { alt, decoding: "async", draggable: false, ...properties });
    img.addEventListener("error", () => {
      if (!img.dataset.again && location.protocol === "file:") {
        img.dataset.again = "1"; // the page was opened through a link to its folder, or copied elsewhere
        const whole = new URL(url, data.root).href;
        if (whole !== img.src) return void (img.src = whole);
      }
      img.replaceWith(make("span", { className: "absent" }, missing));
      img.dispatchEvent(new Event("absent"));
    });
    img.src = url;
    return img;
  }

  /** A choice of one: pills where there are few, else a select. */
  function chooser(name, title, options, value, chosen, most = 7) {
    if (options.length > most) {
      const select = make("select", { name }, ...options.map(([key, text]) => make("option", { value: key }, text)));
      select.value = value;
      select.addEventListener("change", () => chosen(Number(select.value)));
      return make("label", { className: "field" }, make("span", {}, title), select);
    }
    const pills = make("div", { className: "pills" });
    for (const [key, text, extra] of options) {
      const input = make("input", { type: "radio", name, value: key, checked: key === value });
      input.addEventListener("change", () => chosen(key));
      const label = make("label", {}, input, make("span", {}, text));
      if (extra !== undefined) label.lastChild.append(make("small", {}, extra.toLocaleString("en")));
      pills.append(label);
    }
    return make("fieldset", {}, make("legend", {}, title), pills);
  }

  // ---- the state, and which images it lets through

  const state = {
    mode: data.modes.length > 1 ? ALL : 0,
    style: 0,
    target: 0,
    status: "",
    known: -1,
    text: "",
    sort: "name",
    first: true,
  };
  let shown = []; // places in `images`
  let bare = 0; // so many of them, the first, are failures without a picture: they get low cards
  let current = 0; // place in `shown` of the card that the Tab key reaches

  const SORTS = {
    name: ["Name", () => 0],
    "score-": ["Score, highest first", (image) => -(targetOf(image, state.target)?.score ?? -Infinity)],
    "score+": ["Score, lowest first", (image) => targetOf(image, state.target)?.score ?? Infinity],
    "output-": ["Probability, highest first", (image) => -(targetOf(image, state.target)?.probability ?? -Infinity)],
    "output+": ["Probability, lowest first", (image) => targetOf(image, state.target)?.probability ?? Infinity],
    "time-": ["Newest first", (image) => -Date.parse(image.time)],
    "time+": ["Oldest first", (image) => Date.parse(image.time)],
  };

  const haystacks = [];
  function haystack(at) {
    const image = images[at];
    haystacks[at] ??= [
      givenName(image),
      ...Object.keys(image.targets ?? {}).map((target) => targetOf(image, target).label),
      ...(image.error ?? []),
    ].join("\n").toLowerCase();
    return haystacks[at];
  }

  function passes(image, at) {
    if (state.status && statusOf(image) !== state.status) return false;
    if (state.known >= 0 && targetOf(image, state.target)?.known !== state.known) return false;
    return state.text.split(/\s+/).every((word) => haystack(at).includes(word));
  }

  function select() {
    const key = SORTS[state.sort][1];
    const keys = images.map(key);
    const late = images.map((image) => (state.first ? (isBare(image) ? 0 : isFailure(image) ? 1 : 2) : 0));
    shown = [...images.keys()].filter((at) => passes(images[at], at));
    // Infinity - Infinity is no number: images without a score stay in the order of their names.
    shown.sort((a, b) => late[a] - late[b] || keys[a] - keys[b] || a - b);
    bare = state.first ? shown.findIndex((at) => !isBare(images[at])) : 0;
    if (bare < 0) bare = shown.length;
    current = 0;
    const failures = shown.filter((at) => isFailure(images[at])).length;
    const some = shown.length === images.length ? "" : ` of ${images.length.toLocaleString("en")}`;
    byId("count").textContent =
      shown.length.toLocaleString("en") + some + (images.length === 1 ? " image" : " images") + (failures ? `, ${failures} failed` : "");
    byId("empty").hidden = shown.length > 0;
    byId("reset").hidden = images.length === 0;
    byId("empty").firstElementChild.textContent = images.length ? "No image fits this filter." : "No image has been explained here yet.";
  }

  // ---- the cards

  const shownModes = () => (state.style === PANEL ? [ALL] : state.mode === ALL ? data.modes.keys() : [state.mode]);

  function thumbnails(image) {
    const input = state.style === PANEL ? [] : [["input", sourceOf(image), GONE[image.gone] ?? "Not shown by this browser"]];
    const maps = [...shownModes()].map((mode) => {
      const name = mode === ALL ? "panel" : data.modes[mode].name;
      return [name, pictureOf(image, mode, state.style, state.target)?.url, "Not drawn"];
    });
    return [...input, ...maps].map(([name, url, missing]) => {
      const content = url ? imageOf(url, "", missing, { loading: "lazy" }) : make("span", { className: "absent" }, missing);
      return make("span", { className: "thumb" }, content, make("span", { className: "caption" }, name));
    });
  }

  const line = (className, left, right) =>
    make("span", { className: `line ${className}` }, left, make("span", { className: "figure" }, right));

  function card(at, low) {
    const image = images[at];
    const target = targetOf(image, state.target);
    const failed = isFailure(image);
    const status = statusOf(image);
    const [kind, message] = image.error ?? ["", status === "missing" ? "Its pictures are gone; run explain again." : ""];
    const title = failed || !target ? WORDS[status] : target.label;
    const [score, probability] = failed || !target ? ["", ""] : [number(target.score), target.probability === null ? "" : percent(target.probability)];
    const file = make("bdi", { className: "file", title: givenName(image) }, image.name);
    const note = make("span", { className: "note" }, make("b", {}, kind || title), make("span", {}, message));
    const thumbs = () => make("span", { className: "thumbs" }, ...thumbnails(image));
    const said = [title, failed || !target ? message : `score ${score}`, probability].filter(Boolean).join(", ");
    return make(
      "button",
      { type: "button", className: `card ${status}${low ? " low" : ""}`, tabIndex: -1, "aria-label": `${image.name}: ${said}` },
      target && image.set !== undefined ? thumbs() : note,
      ...(low ? [] : [line("", make("bdi", { className: "label" }, title), score && make("span", {}, make("small", {}, "score "), score))]),
      line("small", file, probability),
    );
  }

  // ---- the list: only the rows near the window exist, at the places that they would have

  const live = new Map(); // place in `shown` -> its <li>
  let bands = []; // low cards, then cards with thumbnails: {from, to, columns, width, height, top}

  const rowsOf = (band) => Math.ceil((band.to - band.from) / band.columns);
  const bandOf = (i) => bands.find((band) => i < band.to) ?? bands.at(-1);

  function measure() {
    const across = list.clientWidth;
    const panel = state.style === PANEL;
    const aspect = Math.min(Math.max(data.styles[state.style]?.aspect ?? 1, 0.7), panel ? 4 : 1.5);
    const thumbs = panel ? 1 : [...shownModes()].length + 1;
    const ideal = panel ? 480 : thumbs > 2 ? Math.min(Math.max(115 * aspect, 100), 140) : Math.min(Math.max(140 * aspect, 120), 190);
    bands = [];
    const low = band(0, bare, across, 300, Infinity);
    const tall = band(bare, shown.length, across, Math.max(thumbs * ideal, 240), Math.max(shown.length - bare, 2));
    const beside = thumbs > 2 && tall.width / thumbs < 96 ? Math.ceil(thumbs / 2) : thumbs;
    list.style.setProperty("--beside", beside);
    list.style.setProperty("--tall", `${Math.round((tall.width - 3 * (beside - 1)) / beside / aspect)}px`);
    list.style.setProperty("--rows", Math.ceil(thumbs / beside));
    list.style.setProperty("--captioned", thumbs > 2 ? 1 : 0);
    list.classList.toggle("captioned", thumbs > 2);
    for (const each of [low, tall]) {
      if (each.to === each.from) continue;
      each.top = bands.length ? bands[0].top + rowsOf(bands[0]) * bands[0].height + GAP : 0;
      bands.push(each);
      const sample = item(each.from);
      list.append(sample);
      each.height = sample.offsetHeight + (each === low ? GAP / 2 : GAP);
      sample.remove();
    }
  }

  function band(from, to, across, least, most) {
    const columns = Math.max(1, Math.min(Math.floor((across + GAP) / (least + GAP)), most));
    return { from, to, columns, width: Math.floor((across - GAP * (columns - 1)) / columns), height: 1, top: 0 };
  }

  function item(i) {
    const { from, columns, width, height, top } = bandOf(i);
    const node = make("li", { "aria-setsize": shown.length, "aria-posinset": i + 1 }, card(shown[i], i < bare));
    node.firstChild.dataset.at = i;
    node.style.width = `${width}px`;
    const [row, column] = [Math.floor((i - from) / columns), (i - from) % columns];
    node.style.transform = `translate(${column * (width + GAP)}px, ${top + row * height}px)`;
    return node;
  }

  /** The places whose rows lie between two heights, in pixels from the top of the list. */
  function between(above, below) {
    const places = [];
    for (const { from, to, columns, height, top } of bands) {
      const first = from + Math.max(0, Math.floor((above - top) / height)) * columns;
      const end = Math.min(to, from + Math.ceil((below - top) / height) * columns);
      for (let i = first; i < end; i++) places.push(i);
    }
    return places;
  }

  function draw() {
    const above = -list.getBoundingClientRect().top;
    const last = bands.at(-1);
    list.style.height = last ? `${last.top + rowsOf(last) * last.height - GAP}px` : "0";
    const focused = document.activeElement?.closest("#list li");
    const wanted = new Set(between(above - innerHeight, above + 2 * innerHeight));
    for (const [i, node] of live) {
      if (wanted.has(i)) continue;
      if (node === focused) wanted.add(i);
      else {
        node.remove();
        live.delete(i);
      }
    }
    if (!focused && !wanted.has(current)) current = between(above, above + innerHeight)[0] ?? 0;
    let after = null; // elements stay in the order of the images, for readers that follow it
    for (const i of [...wanted].sort((a, b) => b - a)) {
      if (!live.has(i)) {
        live.set(i, item(i));
        list.insertBefore(live.get(i), after);
      }
      after = live.get(i);
      after.firstChild.tabIndex = i === current ? 0 : -1;
    }
  }

  function redraw() {
    live.clear();
    list.replaceChildren();
    measure();
    draw();
  }

  /** How much of the window the head covers, where it stays in sight. */
  const headHeight = () => (getComputedStyle(byId("top")).position === "sticky" ? byId("top").offsetHeight : 0);

  /** After another filter or order: from the top again. */
  function refresh() {
    select();
    redraw();
    const top = list.getBoundingClientRect().top - headHeight();
    if (top < 0) scrollBy(0, top - GAP);
    draw();
  }

  function goTo(i) {
    if (!shown.length) return;
    current = Math.min(Math.max(0, i), shown.length - 1);
    const { from, columns, height, top: start } = bandOf(current);
    const top = list.getBoundingClientRect().top + start + Math.floor((current - from) / columns) * height;
    const head = headHeight();
    if (top < head + GAP) scrollBy(0, top - head - GAP);
    else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight);
    draw();
    live.get(current).firstChild.focus({ preventScroll: true });
    draw();
  }

  /** The place below or above, as near as the rows allow. */
  function vertical(by) {
    const here = bandOf(current);
    const column = (current - here.from) % here.columns;
    const inside = current + by * here.columns;
    if (by < 0 ? inside >= here.from : inside < here.to) return inside;
    const row = Math.floor((current - here.from) / here.columns);
    if (by > 0 && row < rowsOf(here) - 1) return here.to - 1;
    const next = bands[bands.indexOf(here) + by];
    if (!next) return current;
    const start = by > 0 ? next.from : next.from + (rowsOf(next) - 1) * next.columns;
    return Math.min(start + Math.floor((column / here.columns) * next.columns), next.to - 1);
  }

  list.addEventListener("click", (event) => {
    const found = event.target.closest(".card");
    if (found) open(Number(found.dataset.at));
  });
  list.addEventListener("focusin", (event) => {
    const found = event.target.closest(".card");
    if (found) current = Number(found.dataset.at);
  });
  list.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const moves = {
      ArrowRight: () => current + 1,
      ArrowLeft: () => current - 1,
      ArrowDown: () => vertical(1),
      ArrowUp: () => vertical(-1),
      Home: () => 0,
      End: () => shown.length - 1,
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    goTo(moves[event.key]());
  });

  let asked = false;
  const soon = (act) => () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      act();
    });
  };
  addEventListener("scroll", soon(draw), { passive: true });
  let across = 0;
  function fit() {
    if (box.open) return; // without the page's scroll bar the width is another
    if (list.clientWidth === across) return draw();
    across = list.clientWidth;
    redraw();
  }
  new ResizeObserver(fit).observe(document.documentElement);

  // ---- the tools above the list

  const modeOptions = data.modes.map((mode, i) => [i, mode.name]);
  const styleOptions = data.styles.map((style, i) => [i, style.name]);
  const targetOptions = data.targets.map((target, i) => [i, /^\d+$/.test(target) ? `class ${target}` : target]);

  function tools() {
    const statuses = Object.keys(WORDS)
      .map((word) => [word, WORDS[word], images.filter((image) => statusOf(image) === word).length])
      .filter(([, , n]) => n);
    const choices = byId("choices");
    const add = (name, title, options, chosen) => {
      if (options.length > 1) choices.append(chooser(name, title, options, state[name], chosen));
    };
    const looks = (name) => (value) => {
      state[name] = value;
      redraw();
    };
    add("mode", "Mode", modeOptions.length > 1 ? [[ALL, "all"], ...modeOptions] : [], looks("mode"));
    add("style", "Style", styleOptions, looks("style"));
    add("target", "Target", targetOptions, (value) => {
      state.target = value;
      state.known = -1;
      classes();
      refresh();
    });
    if (statuses.length > 1) {
      add("status", "Status", [["", "All", images.length], ...statuses], (value) => {
        state.status = value;
        refresh();
      });
    }
    byId("first-field").hidden = !images.some(isFailure);
    const probable = images.some((image) => Object.keys(image.targets ?? {}).some((target) => targetOf(image, target).probability !== null));
    for (const [key, [title]] of Object.entries(SORTS)) {
      if (probable || !key.startsWith("output")) byId("sort").append(make("option", { value: key }, title));
    }
    byId("sort").addEventListener("change", (event) => {
      state.sort = event.target.value;
      refresh();
    });
    byId("first").addEventListener("change", (event) => {
      state.first = event.target.checked;
      refresh();
    });
    byId("class").addEventListener("change", (event) => {
      state.known = Number(event.target.value);
      refresh();
    });
    let pause;
    byId("text").addEventListener("input", () => {
      clearTimeout(pause);
      pause = setTimeout(() => {
        state.text = byId("text").value.trim().toLowerCase();
        refresh();
      }, 120);
    });
    byId("more").addEventListener("click", () => {
      const opened = byId("tools").classList.toggle("open");
      byId("more").setAttribute("aria-expanded", opened);
      draw();
    });
    byId("reset").addEventListener("click", () => {
      Object.assign(state, { text: "", status: "", known: -1 });
      byId("text").value = "";
      byId("class").value = -1;
      const every = choices.querySelector("input[name=status]");
      if (every) every.checked = true;
      refresh();
      goTo(0);
    });
    classes();
  }

  /** The classes that occur for the target at hand, with how often. */
  function classes() {
    const times = new Map();
    for (const image of images) {
      const target = targetOf(image, state.target);
      if (target) times.set(target.known, [target.label, (times.get(target.known)?.[1] ?? 0) + 1]);
    }
    const found = [...times].sort((a, b) => collator.compare(a[1][0], b[1][0]));
    const options = found.map(([known, [label, n]]) => make("option", { value: known }, `${label} (${n.toLocaleString("en")})`));
    byId("class").replaceChildren(make("option", { value: -1 }, `All classes (${found.length})`), ...options);
    byId("class").parentElement.hidden = found.length < 2;
  }

  // ---- dark and light

  const system = matchMedia("(prefers-color-scheme: dark)");
  const memory = (() => {
    try {
      return window.localStorage; // refused to pages from disk by some browsers
    } catch {
      return null;
    }
  })();
  let theme = memory?.getItem("gradviz-theme") ?? "";

  function paint() {
    document.documentElement.style.colorScheme = theme;
    byId("theme").setAttribute("aria-pressed", theme ? theme === "dark" : system.matches);
  }
  byId("theme").addEventListener("click", () => {
    const dark = theme ? theme === "dark" : system.matches;
    theme = dark ? "light" : "dark";
    memory?.setItem("gradviz-theme", theme);
    paint();
  });
  system.addEventListener("change", paint);

  // ---- the lightbox

  const look = { at: 0, mode: 0, style: 0, target: 0 };
  const blends = new Map(); // style -> percent, as last chosen

  function open(i) {
    Object.assign(look, { at: i, mode: state.mode === ALL ? 0 : state.mode, style: state.style, target: state.target });
    show();
    box.showModal();
    byId("box-title").focus();
  }

  function step(by) {
    const to = Math.min(Math.max(0, look.at + by), shown.length - 1);
    if (to === look.at) return;
    look.at = to;
    show();
  }

  function show() {
    const image = images[shown[look.at]];
    const target = targetOf(image, look.target);
    const failed = isFailure(image);
    byId("box-title").replaceChildren(make("bdi", {}, failed || !target ? WORDS[statusOf(image)] : target.label));
    box.classList.toggle("failure", failed);
    byId("box-name").replaceChildren(make("bdi", {}, givenName(image)));
    byId("box-place").textContent = `${(look.at + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
    byId("previous").setAttribute("aria-disabled", look.at === 0);
    byId("next").setAttribute("aria-disabled", look.at === shown.length - 1);
    figures(target);
    stage(image, target);
    strip(image);
    choices(image);
    facts(image, target);
    for (const near of [look.at - 1, look.at + 1]) preload(images[shown[near]]);
  }

  function figures(target) {
    const all = target
      ? [["Score", number(target.score)], ["Probability", target.probability === null ? null : percent(target.probability)], ["Rank", target.rank === null ? null : target.rank + 1]]
      : [];
    byId("figures").replaceChildren(
      ...all.filter(([, value]) => value !== null).map(([title, value]) => make("p", {}, make("span", {}, title), make("b", {}, value))),
    );
  }

  /** The map over the input, in one frame of the map's shape. */
  function stage(image, target) {
    const picture = pictureOf(image, look.mode, look.style, look.target);
    const source = look.style === PANEL ? null : sourceOf(image);
    const name = look.style === PANEL ? "all modes" : data.modes[look.mode]?.name;
    box.style.setProperty("--aspect", image.aspect ?? 1);
    frame.replaceChildren();
    const input = source && imageOf(source, `Input image ${image.name}`, "", { className: "input" });
    const alt = `${data.styles[look.style]?.name}, ${name}, for ${target?.label}`;
    const map = picture && imageOf(picture.url, alt, "The picture is gone; run explain again.", { className: "map" });
    if (input) frame.append(input);
    if (map) {
      frame.append(map);
      map.addEventListener("load", () => box.style.setProperty("--aspect", map.naturalWidth / map.naturalHeight));
    } else {
      const [kind, message] = image.error ?? ["", "There is no picture for this choice."];
      frame.append(make("div", { className: "message" }, make("b", {}, kind), make("span", {}, message)));
      input?.classList.add("faint");
    }
    blendable(image, map, input);
  }

  /** The slider works where both are there and cover the same ground: not for a map of a cropped or padded input. */
  function blendable(image, map, input) {
    const judge = () => {
      const [ready, loaded] = [map, input].map((img) => img?.isConnected && img.complete && img.naturalWidth > 0);
      const ratio = ready && loaded ? (input.naturalWidth / input.naturalHeight) * (map.naturalHeight / map.naturalWidth) : 1;
      const fits = Math.abs(ratio - 1) < 0.02;
      let why = "";
      if (look.style === PANEL) why = "A panel shows the input itself.";
      else if (image.gone) why = `${GONE[image.gone]}: only the map is shown.`;
      else if (input && !input.isConnected) why = "This browser cannot show the image: only the map is shown.";
      else if (!fits) why = "The map has the shape of the model input, not of the image: only the map is shown. --size image draws one that fits.";
      blend.disabled = Boolean(why) || !map;
      byId("blend-field").hidden = !map?.isConnected;
      byId("blend-why").textContent = why;
      byId("blend-why").hidden = !why;
      if (input) input.hidden = Boolean(why);
      mix(blends.get(look.style) ?? (data.styles[look.style]?.name === "overlay" ? 100 : MIXED), map);
    };
    for (const img of [map, input]) {
      img?.addEventListener("load", judge);
      img?.addEventListener("absent", judge);
    }
    judge();
  }

  function mix(value, map = frame.querySelector(".map")) {
    const now = blend.disabled ? 100 : value;
    blend.value = now;
    blend.setAttribute("aria-valuetext", `${now} percent map, ${100 - now} percent input`);
    byId("blend-value").textContent = `${now}\u00a0%`;
    blend.style.setProperty("--at", `${now}%`);
    if (map) map.style.opacity = now / 100;
    for (const button of byId("strip").children) {
      const pressed = button.dataset.mode === "input" ? now === 0 : now > 0 && Number(button.dataset.mode) === look.mode;
      button.setAttribute("aria-pressed", pressed);
    }
  }

  function setBlend(value) {
    if (blend.disabled) return;
    const now = Math.min(100, Math.max(0, value));
    blends.set(look.style, now);
    mix(now);
  }

  /** Small pictures of the input and of every mode, to choose among. */
  function strip(image) {
    const source = sourceOf(image);
    const tiles = source && look.style !== PANEL ? [["input", "input", source]] : [];
    if (look.style !== PANEL) {
      for (const [mode, name] of modeOptions) {
        const picture = pictureOf(image, mode, look.style, look.target);
        if (picture) tiles.push([mode, name, picture.url]);
      }
    }
    const buttons = tiles.map(([mode, name, url]) => {
      const button = make("button", { type: "button" }, imageOf(url, "", "\u2013"), make("span", {}, name));
      button.dataset.mode = mode;
      button.addEventListener("click", () => {
        if (mode === "input") return setBlend(0);
        look.mode = mode;
        if (blends.get(look.style) === 0) blends.set(look.style, MIXED);
        show();
        byId("strip").querySelector(`[data-mode="${mode}"]`).focus();
      });
      return button;
    });
    byId("strip").replaceChildren(...buttons);
    byId("strip").hidden = buttons.length < 2;
    mix(Number(blend.value));
  }

  function choices(image) {
    const host = byId("box-choices");
    const focused = host.contains(document.activeElement) ? document.activeElement.name : null;
    const add = (name, title, options) => {
      if (options.length < 2) return [];
      const chosen = (value) => {
        look[name] = value;
        show();
      };
      return [chooser(`box-${name}`, title, options, look[name], chosen, 4)];
    };
    host.replaceChildren();
    if (image.set !== undefined) host.append(...add("style", "Style", styleOptions), ...add("target", "Target", targetOptions));
    if (focused) host.querySelector(`select[name="${focused}"], [name="${focused}"]:checked`)?.focus();
  }

  function facts(image, target) {
    const picture = pictureOf(image, look.mode, look.style, look.target);
    const mode = look.style === PANEL ? null : data.modes[look.mode];
    const style = data.styles[look.style];
    const source = sourceOf(image);
    const link = (url, text) => make("a", { href: url, target: "_blank", rel: "noopener" }, text);
    const [low, high] = picture?.scale ?? [null, null];
    const unit = data.runs[0]?.facts.unit ?? "";
    const all = [
      ["Error", picture && image.error ? `${image.error[1]} (${image.error[0]})` : null],
      ["Class index", target && target.index >= 0 ? `${target.index}` : null],
      ["Style", picture && style ? style.summary : null],
      ["Scale", low === null ? null : low === high ? `flat: ${number(low)} everywhere` : `${number(low)} to ${number(high)} ${unit}`],
      ["Mode", picture && mode ? `${mode.summary} (${mode.source})` : null],
      ["Files", picture || source ? make("span", {}, picture ? link(picture.url, "picture") : "", picture && source ? ", " : "", source ? link(source, "image") : "") : null],
      ["Time", image.time ? moment(image.time) : null],
    ];
    byId("facts").replaceChildren(
      ...all.filter(([, value]) => value).flatMap(([title, value]) => [make("dt", {}, title), make("dd", {}, value)]),
    );
  }

  function preload(image) {
    if (!image) return;
    const picture = pictureOf(image, look.mode, look.style, look.target);
    for (const url of [picture?.url, look.style === PANEL ? null : sourceOf(image)]) {
      if (url) new Image().src = url;
    }
  }

  function cycle(name, options) {
    if (options.length < 2) return;
    look[name] = (look[name] + 1) % options.length;
    show();
  }

  const KEYS = {
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    Home: () => step(-Infinity),
    End: () => step(Infinity),
    ArrowUp: () => setBlend(Number(blend.value) + STEP),
    ArrowDown: () => setBlend(Number(blend.value) - STEP),
    m: () => cycle("mode", modeOptions),
    s: () => cycle("style", styleOptions),
    t: () => cycle("target", targetOptions),
  };

  box.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Tab") return keepInside(event);
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const own = event.target.matches("input, select") && key.length > 1; // a slider's or a choice's own arrows
    if (!KEYS[key] || own) return;
    event.preventDefault();
    KEYS[key]();
  });

  /** From the last control to the first and back, not out to the browser. */
  function keepInside(event) {
    const stops = [...box.querySelectorAll("button, input, select, a[href]")].filter(
      (node) => !node.disabled && node.offsetParent && (node.type !== "radio" || node.checked),
    );
    const [first, last] = [stops[0], stops.at(-1)];
    if (event.shiftKey ? event.target === first || !stops.includes(event.target) : event.target === last) {
      event.preventDefault();
      (event.shiftKey ? last : first).focus();
    }
  }

  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => box.close());
  box.addEventListener("close", () => {
    frame.replaceChildren();
    fit();
    goTo(look.at);
  });
  blend.addEventListener("input", () => setBlend(Number(blend.value)));
  blend.addEventListener("pointerup", () => byId("box-title").focus()); // the arrows step again

  let start = null;
  byId("stage").addEventListener("pointerdown", (event) => {
    start = event.isPrimary && event.pointerType !== "mouse" ? [event.clientX, event.clientY] : null;
  });
  byId("stage").addEventListener("pointerup", (event) => {
    if (!start) return;
    const [dx, dy] = [event.clientX - start[0], event.clientY - start[1]];
    start = null;
    if (Math.abs(dx) > 40 && Math.abs(dx) > 2 * Math.abs(dy)) step(dx < 0 ? 1 : -1);
  });

  // ---- where it comes from

  const NAMES = {
    model: "model fingerprint",
    version: "gradviz",
    signature: "signature",
    preprocess: "preprocess",
    estimator: "estimator",
    clip: "clip percentile",
    unit: "unit of the scale",
  };

  function about() {
    const modes = data.modes.map((mode) => [mode.name, mode.source ? `${mode.summary} (${mode.source})` : mode.summary]);
    const styles = data.styles.map((style) => [style.name, style.summary]);
    const pairs = (all) => make("dl", {}, ...all.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
    const section = (title, ...content) => make("section", {}, make("h2", {}, title), ...content);
    const parts = [];
    if (modes.length || styles.length) parts.push(section("How to read the maps", pairs([...modes, ...styles])));
    for (const caution of new Set(data.modes.map((mode) => mode.caution).filter(Boolean))) {
      parts[0].append(make("p", {}, caution));
    }
    for (const { pictures, facts } of data.runs) {
      const known = Object.keys(NAMES).filter((key) => key in facts);
      const keys = [...known, ...Object.keys(facts).filter((key) => !(key in NAMES))];
      const value = (found) => (typeof found === "string" ? found : JSON.stringify(found));
      const title = `How ${count(pictures, "picture")} ${pictures === 1 ? "was" : "were"} made`;
      parts.push(section(title, pairs(keys.map((key) => [NAMES[key] ?? key, value(facts[key])]))));
    }
    const made = make("time", { dateTime: data.made }, moment(data.made));
    byId("about").append(make("div", {}, ...parts), make("p", { className: "made" }, "Page made ", made, ` by gradviz ${data.version}`));
  }

  paint();
  tools();
  select();
  across = list.clientWidth;
  redraw();
  about();
  performance.mark("gradviz-ready");
})();
