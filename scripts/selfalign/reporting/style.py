"""The page's style sheet: one column, light and dark, from a phone's width up."""

CSS = """
:root { color-scheme: light dark;
  --page: #f4f5f3; --paper: #fdfdfc; --ink: #1f2328; --muted: #5c666f; --grid: #dfe3e6; --accent: #16695f;
  --kept: #1d7f74; --flow: #d5e9e5; --lost-0: #e5a06b; --lost-1: #e8c492; --lost-2: #d6b4c0; --lost-3: #b5bcc6;
  --lost-4: #d3d8dc;
  --series-0: #2563a8; --series-1: #1b8076; --series-2: #c8672e; --series-3: #7b52a8;
  --series-4: #a8324a; --series-5: #6b7a1f;
  --code: #f1f3f1; }
@media (prefers-color-scheme: dark) { :root {
  --page: #101314; --paper: #181c1e; --ink: #e6e9ea; --muted: #9aa5ab; --grid: #30373b; --accent: #5cc7b6;
  --kept: #4fb8a8; --flow: #1f3a37; --lost-0: #d98c55; --lost-1: #d9ab74; --lost-2: #c9a0ae; --lost-3: #9aa3b0;
  --lost-4: #828b93;
  --series-0: #74aef0; --series-1: #4fb8a8; --series-2: #e59a66; --series-3: #b79ae6;
  --series-4: #ec7f93; --series-5: #b9c766;
  --code: #101415; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
a { color: var(--accent); }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--paper); padding: .5rem 1rem; z-index: 9; }
header, main, footer { max-width: 60rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; }
.kicker { margin: 0; color: var(--accent); font-weight: 600; letter-spacing: .04em; }
h1 { font-size: clamp(1.8rem, 5vw, 2.6rem); line-height: 1.15; margin: .1rem 0 .6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 0 0 .75rem; line-height: 1.25; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
.finding { font-size: 1.15rem; max-width: 46rem; margin: 0 0 1rem; }
.meta { max-width: none; color: var(--muted); font-size: .9rem; margin: 0 0 1.5rem; overflow-wrap: anywhere; }
.tiles { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fit, minmax(min(15rem, 46%), 1fr));
  margin: 0 0 1.25rem;
  padding: 0; list-style: none; }
.tiles li { background: var(--paper); border: 1px solid var(--grid); border-radius: .6rem; padding: .8rem 1rem; }
.tiles strong { display: block; font-size: clamp(1.2rem, 5vw, 1.6rem); line-height: 1.2; white-space: nowrap; }
.tiles span { color: var(--muted); font-size: .88rem; }
nav { position: sticky; top: 0; z-index: 2; background: var(--page); border-bottom: 1px solid var(--grid); }
nav ul { max-width: 60rem; margin: 0 auto; padding: .6rem 1.25rem; display: flex; gap: 1.25rem; list-style: none;
  overflow-x: auto; white-space: nowrap; }
nav a { text-decoration: none; font-size: .92rem; }
nav a:hover { text-decoration: underline; }
section { background: var(--paper); border: 1px solid var(--grid); border-radius: .8rem; padding: 1.4rem 1.5rem;
  margin: 1.25rem 0; scroll-margin-top: 3.25rem; }
p { max-width: 46rem; }
.note { color: var(--muted); font-size: .92rem; }
.scroll { overflow-x: auto; margin: .75rem 0 1.25rem; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); font-size: .88rem; padding-bottom: .4rem; }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--grid); vertical-align: top; }
thead th { color: var(--muted); font-weight: 600; font-size: .85rem; }
tbody th { font-weight: 600; }
.of { display: block; color: var(--muted); font-weight: 400; font-size: .88em; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
.number + :not(.number) { padding-left: .8rem; }
.bar { display: inline-block; height: .65em; background: var(--kept); border-radius: 2px; vertical-align: baseline; }
figure { margin: 1rem 0 1.25rem; }
figure svg { display: block; width: 100%; height: auto; }
.wide svg { max-width: 60rem; } .narrow { display: none; } .half { max-width: 30rem; }
figcaption { color: var(--muted); font-size: .88rem; margin-top: .35rem; max-width: 46rem; }
details { border-top: 1px solid var(--grid); padding: .55rem 0; }
details:last-child { border-bottom: 1px solid var(--grid); }
summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
summary .note { font-weight: 400; }
details[open] > summary { margin-bottom: .5rem; }
.block { margin: .6rem 0; } .block > b { font-size: .82rem; color: var(--muted); font-weight: 600; }
pre { background: var(--code); border: 1px solid var(--grid); border-radius: .4rem; padding: .6rem .8rem;
  margin: .2rem 0 0; overflow-x: auto;
  font: .84rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre.prose { white-space: pre-wrap; overflow-wrap: anywhere; font-family: inherit; font-size: .92rem; }
dl { margin: .5rem 0; } dl div { display: flex; gap: .75rem; padding: .15rem 0; }
dt { flex: 0 0 9rem; color: var(--muted); } dd { margin: 0; overflow-wrap: anywhere; }
footer { color: var(--muted); font-size: .88rem; padding-bottom: 3rem; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media (max-width: 42rem) {
  header, main, footer { padding-left: .8rem; padding-right: .8rem; }
  section { padding: 1.1rem 1rem; border-radius: .6rem; }
  nav ul { padding-left: .8rem; padding-right: .8rem; }
  table { width: max-content; min-width: 100%; } td { max-width: 15rem; }
  table { font-size: .88rem; } th, td { padding-right: .6rem; } tbody th { max-width: 9.5rem; overflow-wrap: anywhere; }
  .wide { display: none; } .narrow { display: block; }
  dl div { flex-direction: column; gap: 0; } dt { flex-basis: auto; font-size: .85rem; }
}
@media print { nav { display: none; } body { background: none; } section { break-inside: avoid-page; } }
"""
