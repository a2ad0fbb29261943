// SPDX-License-Identifier: MIT
// What the page of `openerctl audit report` looks like, and the one script that it has.
#pragma once

#include <string_view>

namespace fdbroker::records {

inline constexpr std::string_view report_style = R"css(
:root { color-scheme: light dark; --back: #fff; --text: #1c2330; --dim: #667085; --line: #dfe3ea; --card: #f6f7f9;
  --allowed: #2f855a; --refused: #c0392b; --mark: #fff3c4; }
@media (prefers-color-scheme: dark) { :root { --back: #14181f; --text: #e6e9ef; --dim: #98a2b3; --line: #2c333f;
  --card: #1c222c; --allowed: #48bb78; --refused: #fc8181; --mark: #4a3f12; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; background: var(--back); color: var(--text);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; } .dim { color: var(--dim); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; }
.card b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.allowed { color: var(--allowed); } .refused { color: var(--refused); }
svg { width: 100%; height: 9rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
svg .a { fill: var(--allowed); } svg .r { fill: var(--refused); }
.axis { display: flex; justify-content: space-between; color: var(--dim); font-size: .8rem; }
#bar { position: sticky; top: 0; background: var(--back); padding: .6rem 0; border-bottom: 1px solid var(--line); z-index: 1; }
#filter { width: 100%; padding: .5rem .7rem; font: inherit; color: inherit; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th { text-align: left; color: var(--dim); font-weight: 600; cursor: pointer; white-space: nowrap; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.p { font-family: ui-monospace, monospace; overflow-wrap: anywhere; min-width: 16rem; }
td.t { white-space: nowrap; color: var(--dim); }
tr:hover td { background: var(--card); }
.unused td { background: var(--mark); }
)css";

// Without it everything is there but the filter and the sorting.
inline constexpr std::string_view report_script = R"js(
'use strict';
const filter = document.getElementById('filter');
const rows = Array.from(document.querySelectorAll('tbody tr'), row => ({row, text: row.textContent.toLowerCase()}));
const counts = Array.from(document.querySelectorAll('section[data-rows]'),
  section => ({section, shown: section.querySelector('.shown')}));
function apply() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(word => word !== '');
  for (const {row, text} of rows) row.hidden = !words.every(word => text.includes(word));
  for (const {section, shown} of counts) {
    const visible = section.querySelectorAll('tbody tr:not([hidden])').length;
    shown.textContent = words.length === 0 ? '' : visible + ' of ' + section.dataset.rows + ' shown';
  }
}
filter.addEventListener('input', () => {
  history.replaceState(null, '', filter.value === '' ? location.pathname : '#' + encodeURIComponent(filter.value));
  apply();
});
for (const head of document.querySelectorAll('th')) {
  head.addEventListener('click', () => {
    const body = head.closest('table').tBodies[0];
    const column = head.cellIndex;
    const down = head.dataset.down !== 'yes';
    head.dataset.down = down ? 'yes' : 'no';
    const value = row => row.cells[column].dataset.n === undefined
      ? row.cells[column].textContent : Number(row.cells[column].dataset.n);
    const sorted = Array.from(body.rows).sort((left, right) => {
      const one = value(left), other = value(right);
      return (one < other ? -1 : one > other ? 1 : 0) * (down ? -1 : 1);
    });
    body.append(...sorted);
  });
}
document.getElementById('bar').hidden = false;
try { filter.value = decodeURIComponent(location.hash.slice(1)); } catch (error) { filter.value = ''; }
apply();
)js";

}  // namespace fdbroker::records
