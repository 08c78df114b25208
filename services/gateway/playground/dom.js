// Elements, and the colours of domains.

// An element with properties (`class`, `text`, or its own) and children.
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") made.className = value;
    else if (name === "text") made.textContent = value;
    else if (name.startsWith("aria-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const HUES = [28, 205, 140, 285, 345, 175, 55, 245, 95, 315];
const hues = new Map();

// Gives an element the colour of a domain; the base model's own answers are grey.
export function tint(made, domain) {
  made.dataset.domain = domain;
  if (domain === "general") {
    made.style.setProperty("--vivid", "12%");
    return made;
  }
  if (!hues.has(domain)) hues.set(domain, HUES[hues.size % HUES.length]);
  made.style.setProperty("--hue", hues.get(domain));
  return made;
}

export const chip = (domain, version) =>
  tint(element("span", { class: "chip", text: `${domain}@${version}` }), domain);

// `part` in [0, 1]; what it says is in the text beside it.
export function bar(part, domain) {
  const fill = element("i");
  fill.style.width = `${100 * Math.max(0, Math.min(1, part))}%`;
  const made = element("span", { class: "bar", "aria-hidden": "true" }, fill);
  return domain ? tint(made, domain) : made;
}

export const milliseconds = (value) =>
  value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
