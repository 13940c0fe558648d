//! Hosts that may imitate others: labels of mixed scripts (UTS 39, "highly restrictive").

use unicode_script::{Script, UnicodeScript};

/// Scripts that are written together as a rule: Japanese, Chinese with Bopomofo, Korean, each also with Latin.
const WRITTEN_TOGETHER: [&[Script]; 3] = [
    &[Script::Latin, Script::Han, Script::Hiragana, Script::Katakana],
    &[Script::Latin, Script::Han, Script::Bopomofo],
    &[Script::Latin, Script::Han, Script::Hangul],
];

/// Whether any label of an A-label host mixes scripts that are not written together (UTS 39 §5.2).
pub(super) fn is_mixed(host: &str) -> bool {
    // Only an encoded label can hold anything but ASCII.
    if !host.contains("xn--") {
        return false;
    }
    ::url::quirks::domain_to_unicode(host).split('.').any(label_is_mixed)
}

fn label_is_mixed(label: &str) -> bool {
    let mut scripts: Vec<Script> = Vec::new();
    for script in label.chars().map(|c| c.script()) {
        let is_shared = matches!(script, Script::Common | Script::Inherited);
        if !is_shared && !scripts.contains(&script) {
            scripts.push(script);
        }
    }
    scripts.len() > 1
        && !WRITTEN_TOGETHER.iter().any(|together| scripts.iter().all(|script| together.contains(script)))
}
