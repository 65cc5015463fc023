//! A browser.

use std::env;

/// Chromium as Debian has it.
const BROWSERS: [&str; 2] = ["chromium-headless-shell", "chromium"];

/// The browser's name, if there is one; says so where there is none.
pub fn installed(test: &str) -> Option<&'static str> {
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = |name: &&str| env::split_paths(&path).any(|at| at.join(name).exists());
    let browser = BROWSERS.into_iter().find(|name| installed(name));
    if browser.is_none() {
        let what = "there is no browser: apt-get install chromium-headless-shell";
        crate::common::skipped(test, what);
    }
    browser
}

/// The arguments with which it prints the page at `url` as it is once its scripts have run, with its own files in `profile`.
pub fn arguments<'a>(profile: &'a str, url: &'a str) -> Vec<&'a str> {
    vec![
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        // Else the page must load before the clock of the machine says so.
        "--virtual-time-budget=60000",
        profile,
        "--dump-dom",
        url,
    ]
}
