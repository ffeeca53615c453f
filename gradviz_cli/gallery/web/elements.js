// Words, numbers and elements.

const data = JSON.parse(document.getElementById("data").textContent);
const images = data.images;
const byId = (id) => document.getElementById(id);
const [list, box] = ["list", "box"].map(byId);

const WORDS = {
  done: "Done",
  failed: "Failed",
  zero: "Zero map",
  nowhere: "Not found",
  nonfinite: "Not finite",
  missing: "No picture",
  elsewhere: "Not in this folder",
};
const GONE = {
  gone: "The image is no longer there",
  changed: "The image has changed since",
  unchecked: "The image was not compared with the one that was explained",
  failed: "The image could not be explained",
  page: "It is one page of its file, and no browser shows a page alone",
};
const UNSHOWN = "Not shown by this browser";

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

/** An element; every text goes in as text, never as HTML. */
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
    if (!img.dataset.again && data.root && location.protocol === "file:") {
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
    const numbers = options.every(([key]) => typeof key === "number");
    select.addEventListener("change", () => chosen(numbers ? Number(select.value) : select.value));
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
