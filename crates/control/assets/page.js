// Keys, and pages that follow what happens. Every page works without it.
(() => {
  'use strict';
  const main = document.getElementById('main');
  const announcer = document.getElementById('announcer');

  // A page that follows a topic is loaded again when the server says that something has changed. Several
  // changes within half a second are one.
  const topic = main && main.dataset.live;
  if (topic && window.EventSource) {
    let timer = 0;
    let announced = 0;
    const changed = () => {
      timer = 0;
      htmx.trigger(main, 'changed');
      if (Date.now() - announced > 5000) {
        announced = Date.now();
        announcer.textContent = '';
        setTimeout(() => { announcer.textContent = 'The page was updated.'; }, 50);
      }
    };
    const source = new EventSource('/api/v1/stream?topic=' + encodeURIComponent(topic));
    source.addEventListener('changed', () => { timer ||= setTimeout(changed, 500); });
    source.addEventListener('open', () => { document.documentElement.dataset.live = 'open'; });
    source.addEventListener('error', () => { document.documentElement.dataset.live = 'lost'; });
    window.addEventListener('pagehide', () => source.close());
  }

  // Rows are chosen with the keys of many programs, and opened with Enter.
  const rows = () => [...document.querySelectorAll('[data-row]')];
  const link = (row) => (row.matches('a') ? row : row.querySelector('a'));
  const move = (step) => {
    const all = rows();
    if (!all.length) return;
    const at = all.findIndex((row) => row.contains(document.activeElement));
    const next = all[Math.min(Math.max(at + step, 0), all.length - 1)];
    const target = link(next);
    if (target) target.focus();
  };
  const go = {
    o: '/', i: '/inbox', s: '/sessions', f: '/fleet', p: '/policy', a: '/audit', m: '/me',
    w: '/flows', d: '/findings', y: '/integrity',
  };
  let pending = false;
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    if (event.target.closest('input, textarea, select, dialog[open]')) return;
    const key = event.key;
    if (pending) {
      pending = false;
      if (go[key]) { event.preventDefault(); location.assign(go[key]); return; }
    }
    if (key === 'g') pending = true;
    else if (key === 'j') move(1);
    else if (key === 'k') move(-1);
    else if (key === '/') {
      event.preventDefault();
      const field = document.getElementById('search');
      if (field) field.focus(); else location.assign('/search');
    } else if (key === 'a') {
      const first = document.querySelector('#answer input, #answer button');
      if (first) { event.preventDefault(); first.focus(); }
    } else if (key === '?') document.getElementById('keys').showModal();
  });

  document.documentElement.dataset.ready = '1';
})();
