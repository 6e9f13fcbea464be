/** Makes elements. Text goes in as text: nothing here reads HTML. */

/**
 * An element with attributes and children.
 * An attribute that is null or false is left out; `on` holds listeners; strings become text.
 */
export function el(name, { on = {}, ...attributes } = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(key, value === true ? "" : String(value));
    }
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** A width as a share of the parent. The page's security policy forbids style attributes, not this. */
export function wide(element, share) {
  element.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return element;
}

/** Puts new children into a container. The focus stays on the element that has the same `data-focus`. */
export function fill(container, ...children) {
  const focused = container.contains(document.activeElement) && document.activeElement.dataset.focus;
  container.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== false));
  if (focused) container.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
}

export const button = (words, click, attributes = {}) =>
  el("button", { type: "button", ...attributes, on: { click } }, words);

/** An element of a drawing. */
export function drawn(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children.flat());
  return element;
}
