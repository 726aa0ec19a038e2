// The library is told the colours that the reader prefers, before it draws.
'use strict';
const page = document.querySelector('rapi-doc');
const dark = matchMedia('(prefers-color-scheme: dark)');
function paint() {
  page.setAttribute('theme', dark.matches ? 'dark' : 'light');
  page.setAttribute('bg-color', dark.matches ? '#15181c' : '#ffffff');
  page.setAttribute('text-color', dark.matches ? '#e8eaed' : '#1a1d21');
  page.setAttribute('primary-color', dark.matches ? '#8ab4f8' : '#0b57d0');
}
dark.addEventListener('change', paint);
paint();
