// Before the first paint: "as the system" follows the system.
(() => {
  const root = document.documentElement
  const dark = matchMedia('(prefers-color-scheme: dark)')
  const apply = () => { if (root.dataset.themeChoice === 'auto') root.dataset.bsTheme = dark.matches ? 'dark' : 'light' }
  apply()
  dark.addEventListener('change', apply)
})()
