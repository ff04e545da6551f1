// Run in a page by check.py: the faults that can be seen, as JSON.
(() => {
  const faults = [];
  const screen = document.documentElement.clientWidth;
  const all = (selector) => [...document.querySelectorAll(selector)];
  const name = (e) =>
    `<${e.tagName.toLowerCase()} class="${e.getAttribute('class') || ''}"> ${(e.textContent || '').trim().slice(0, 40)}`;

  // Whether an element is in something that is folded; the line that unfolds it is not.
  const folded = (e) => {
    const closed = 'details:not([open])';
    for (let at = e.closest(closed); at; at = at.parentElement.closest(closed)) {
      if (!at.querySelector(':scope > summary').contains(e)) return true;
    }
    return false;
  };

  const levels = all('h1,h2,h3,h4').map((h) => Number(h.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) faults.push('not one h1');
  levels.forEach((level, at) => {
    if (at && level > levels[at - 1] + 1) faults.push(`h${level} after h${levels[at - 1]}`);
  });

  for (const e of all('h1,h2,h3,h4,table,svg[role],figure,summary,dt,.chip,.turn')) {
    if (folded(e)) continue;
    const box = e.getBoundingClientRect();
    const seen = e.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    if (box.width < 1 || box.height < 1 || !seen) faults.push(`not visible: ${name(e)}`);
  }

  const width = document.documentElement.scrollWidth;
  if (width > screen) faults.push(`the page is ${width} wide`);
  for (const e of all('body *')) {
    if (folded(e) || e.closest('.scroll table') || e.closest('svg')) continue;
    const box = e.getBoundingClientRect();
    if (box.width && (box.right > screen + 1 || box.left < -1)) faults.push(`out of the screen: ${name(e)}`);
  }

  for (const e of all('svg')) {
    if (e.parentElement.closest('svg') || e.getAttribute('aria-hidden')) continue;
    const label = (e.getAttribute('aria-label') || '').trim();
    if (e.getAttribute('role') !== 'img' || !label) faults.push(`a picture without a label: ${name(e.parentElement)}`);
  }
  for (const e of all('table')) if (!e.caption) faults.push(`a table without a caption: ${name(e)}`);
  const ids = all('[id]').map((e) => e.id);
  if (new Set(ids).size !== ids.length) faults.push('an id stands twice');
  for (const e of all('a[href]')) {
    const target = e.getAttribute('href');
    if (!target.startsWith('#') || !ids.includes(target.slice(1))) faults.push(`a link that leads nowhere: ${name(e)}`);
  }
  for (const e of all('script,img,link,iframe,object,embed,form')) faults.push(`has no place here: ${name(e)}`);

  // Any colour that CSS can write, as red, green, blue and opacity: a canvas knows them all.
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (front, back) => [0, 1, 2].map((at) => front[at] * front[3] + back[at] * (1 - front[3]));
  const behind = (e) => {
    const layers = [];
    for (let at = e; at; at = at.parentElement) {
      layers.push(rgba(getComputedStyle(at).backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    return layers.reverse().reduce((back, layer) => over(layer, back), [255, 255, 255]);
  };
  // WCAG 2.2: relative luminance and contrast ratio.
  const luminance = (colour) => {
    const [r, g, b] = colour.map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (front, back) => {
    const [a, b] = [luminance(over(front, back)), luminance(back)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };

  let texts = 0;
  let least = 21;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const e = node.parentElement;
    if (!node.data.trim() || e.closest('svg')) continue;
    const style = getComputedStyle(e);
    const found = contrast(rgba(style.color), behind(e));
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    texts += 1;
    least = Math.min(least, found);
    if (found < (isLarge ? 3 : 4.5)) faults.push(`contrast ${found.toFixed(2)}: ${name(e)}`);
    if (size < 11) faults.push(`letters of ${size} pixels: ${name(e)}`);
  }
  for (const e of all('.mark,.whisker,.curve,.ideal')) {
    if (folded(e)) continue;
    const style = getComputedStyle(e);
    const front = rgba(style.stroke);
    front[3] *= Number(style.opacity);
    const found = contrast(front, behind(e.closest('figure')));
    if (found < 3) faults.push(`a picture's contrast ${found.toFixed(2)}: ${e.getAttribute('class')}`);
  }

  const height = document.documentElement.scrollHeight;
  return JSON.stringify({ faults: [...new Set(faults)], texts, least, height });
})();
