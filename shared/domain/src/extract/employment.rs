//! Employment types in schema.org's words.

use super::words::fold;

/// What publishers write, folded, and the word of <https://schema.org/employmentType> as Google
/// lists them.
const WORDS: &[(&str, &[&str])] = &[
    (
        "FULL_TIME",
        &[
            "full time",
            "fulltime",
            "vollzeit",
            "temps plein",
            "temps complet",
            "a temps plein",
            "tiempo completo",
            "jornada completa",
            "tempo pieno",
            "tempo inteiro",
            "tempo integral",
            "voltijd",
            "voltijds",
            "heltid",
            "heltidsstilling",
            "kokoaikainen",
            "100 %",
            "100%",
        ],
    ),
    (
        "PART_TIME",
        &[
            "part time",
            "parttime",
            "teilzeit",
            "temps partiel",
            "a temps partiel",
            "tiempo parcial",
            "media jornada",
            "tempo parziale",
            "tempo parcial",
            "deeltijd",
            "deeltijds",
            "deltid",
            "osa aikainen",
        ],
    ),
    ("CONTRACTOR", &["contractor", "contract", "freelance", "freelancer", "freie mitarbeit"]),
    (
        "TEMPORARY",
        &[
            "temporary",
            "temp",
            "fixed term",
            "limited",
            "term",
            "befristet",
            "cdd",
            "contrat a duree determinee",
            "temporal",
            "contrato temporal",
            "tempo determinato",
            "termo certo",
            "tijdelijk",
            "midlertidig",
            "tidsbegransad",
            "tidsbegraenset",
            "visstidsanstallning",
            "maaraaikainen",
            "fixed term contract",
            "temporary contract",
        ],
    ),
    (
        "INTERN",
        &[
            "intern",
            "internship",
            "praktikum",
            "stage",
            "stagiaire",
            "practicas",
            "tirocinio",
            "estagio",
            "praktik",
            "trainee",
            "harjoittelu",
        ],
    ),
    ("VOLUNTEER", &["volunteer", "voluntary", "ehrenamt", "benevolat", "voluntariado"]),
    ("PER_DIEM", &["per diem"]),
    ("OTHER", &["other"]),
];

/// The schema.org word for what a publisher wrote; also for full URLs such as
/// `https://schema.org/FULL_TIME`. Unknown words have none.
pub fn word_of(text: &str) -> Option<&'static str> {
    let last = match text.starts_with("http") {
        true => text.rsplit('/').next().unwrap_or(text),
        false => text,
    };
    let folded = fold(&last.replace(['_', '-'], " "));
    WORDS.iter().find_map(|(word, forms)| forms.contains(&folded.as_str()).then_some(*word))
}

/// Every type that a value names: publishers join them by comma, slash, bar or semicolon.
pub fn words_in(text: &str) -> Vec<&'static str> {
    let mut found = Vec::new();
    if let Some(word) = word_of(text) {
        return vec![word];
    }
    for part in text.split([',', ';', '|', '/', '(', ')', '\n', '&']).take(16) {
        if let Some(word) = word_of(part.trim())
            && !found.contains(&word)
        {
            found.push(word);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_publishers_write_becomes_the_word_of_the_vocabulary() {
        for (text, words) in [
            ("FULL_TIME", vec!["FULL_TIME"]),
            ("Full-time", vec!["FULL_TIME"]),
            ("full time", vec!["FULL_TIME"]),
            ("Vollzeit", vec!["FULL_TIME"]),
            ("https://schema.org/PART_TIME", vec!["PART_TIME"]),
            ("Full-time, fixed-term", vec!["FULL_TIME", "TEMPORARY"]),
            ("Temps plein / CDD", vec!["FULL_TIME", "TEMPORARY"]),
            ("fixed-term contract", vec!["TEMPORARY"]),
            ("at your own risk", vec![]),
        ] {
            assert_eq!(words_in(text), words, "{text}");
        }
    }
}
