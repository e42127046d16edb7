"""How the page looks: on a phone, on a desk, in the dark and on paper."""

CSS = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --soft: #f3f4f6;
  --line: #d4d7dc; --dim: #5b6270; --mark: #0060a8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #16181c; --soft: #22262c; --line: #3a3f47; --dim: #a2a9b5;
    --mark: #7cc0ff; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 80rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1, h2, h3, h4, .dim { overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem;
  border-bottom: 1px solid var(--line); } h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
a { color: var(--mark); }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1rem; padding: 0; margin: .5rem 0;
  list-style: none; }
p { margin: .5rem 0; max-width: 60rem; } .dim, .note { color: var(--dim); font-size: .9rem; }
.missing { border-left: 4px solid #d55e00; padding: .3rem .8rem; background: var(--soft); }
.wide { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { text-align: left; color: var(--dim); padding: .2rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; white-space: nowrap; }
.name { display: inline-block; max-width: 10rem; white-space: normal; overflow-wrap: anywhere; }
tbody .name, .facts .name { max-width: none; overflow-wrap: break-word; }
tbody .long { min-width: 8rem; }
th:first-child, th.text, td.text { text-align: left; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom;
  white-space: normal; }
tbody th small { display: block; color: var(--dim); }
tbody th { font-weight: normal; position: sticky; left: 0; background: var(--paper); }
.facts td { white-space: normal; overflow-wrap: anywhere; min-width: 9rem; max-width: 30rem; }
tr.published { color: var(--dim); font-style: italic; } tr.group td, tr.group th {
  border-top: 2px solid var(--line); }
tr.differs td { font-weight: 600; }
.tables { display: flex; flex-wrap: wrap; gap: .6rem 2.5rem; align-items: flex-start; }
.tables .wide { max-width: 100%; }
.bar { width: 5rem; height: .6rem; margin-left: .5rem; background: var(--soft); }
code { font-size: .92em; }
.charts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(21rem,
  100%), 1fr)); }
figure { margin: 0; min-width: 0; } figcaption { font-weight: 600; font-size: .92rem;
  overflow-wrap: anywhere; }
.chart svg { width: 100%; height: auto; display: block; }
svg text { font: 12px system-ui, sans-serif; fill: var(--dim); } svg .grid {
  stroke: var(--line); stroke-width: .7; }
svg .curve { fill: none; stroke-width: 2; } svg polyline.level { fill: none;
  stroke: var(--line); stroke-width: 1; } svg text.level { font-size: 10px; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; padding: 0; margin: .2rem 0;
  list-style: none; font-size: .85rem; overflow-wrap: anywhere; }
.chart .legend svg { display: inline-block; width: 24px; height: 10px; }
.swatch { width: .8rem; height: .8rem; outline: 1px solid var(--line); vertical-align: -1px; }
.maps { display: grid; gap: .7rem; grid-template-columns: repeat(auto-fill, minmax(min(9.3rem,
  45%), 1fr)); } .maps figure { display: grid; grid-row: span 3; grid-template-rows: subgrid;
  row-gap: .2rem; align-items: start; } .maps figcaption { align-self: end; }
.maps img { width: 100%; height: auto; display: block; margin-bottom: 3px; }
.maps figcaption { font-size: .82rem; line-height: 1.3; } .maps figcaption span {
  font-weight: normal; color: var(--dim); display: block; }
.maps .legend, .maps .note { font-size: .75rem; margin: 0; }
@media (max-width: 40rem) { caption { max-width: calc(100vw - 1.5rem); }
  tbody th { max-width: 42vw; white-space: normal;
  overflow-wrap: break-word; } body { padding: .7rem; font-size: 15px; } th, td {
  padding: .25rem .45rem; } .name { max-width: 6.5rem; } .bar { width: 4.2rem; display: block;
  margin: .15rem 0 0 auto; } }
@page { margin: 15mm; }
@media print {
  :root { color-scheme: light; --ink: #000; --paper: #fff; --soft: #eee; --line: #bbb;
    --dim: #444; --mark: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  .wide { overflow: visible; } .name { max-width: 3.2cm; } .bar { width: 2cm; }
  th, td { padding: .15rem .4rem; white-space: normal; }
  .facts td { min-width: 0; } .tables td { white-space: nowrap; } tbody th { position: static; }
  .maps { grid-template-columns: repeat(auto-fill, minmax(2.3cm, 1fr)); }
  .charts { grid-template-columns: repeat(auto-fill, minmax(8cm, 1fr)); }
  .maps figcaption { font-size: .68rem; }
  h2, h3, h4, figcaption, caption, thead { break-after: avoid; } figure, tr { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
