//! Salaries: schema.org's `MonetaryAmount`, and amounts in text.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::graph::{Graph, property};
use crate::extract::words::fold;
use crate::posting::limits::SALARY_MAX;
use crate::posting::{Salary, SalaryUnit};

/// The salary of a posting's `baseSalary`. A value of 0 stands for "not said".
pub(crate) fn salary_of<'a>(graph: &Graph<'a>, posting: &'a Map<String, Value>) -> Option<Salary> {
    graph.values(posting, "baseSalary").find_map(|value| {
        let Some(amount) = graph.object(value) else {
            return match value {
                Value::Number(number) => sound(Salary {
                    min: number.as_f64(),
                    max: number.as_f64(),
                    currency: currency(graph, posting, "salaryCurrency"),
                    unit: None,
                }),
                Value::String(text) => salary_in_text(text),
                _ => None,
            };
        };
        let mut salary = Salary {
            currency: currency(graph, amount, "currency")
                .or_else(|| currency(graph, posting, "salaryCurrency")),
            ..Salary::default()
        };
        let inner = graph.values(amount, "value").next();
        let range = inner.and_then(|value| graph.object(value)).unwrap_or(amount);
        salary.min = number(property(range, "minValue"));
        salary.max = number(property(range, "maxValue"));
        if salary.min.is_none() && salary.max.is_none() {
            let single = number(inner).or_else(|| number(property(range, "value")));
            (salary.min, salary.max) = (single, single);
        }
        salary.unit = ["unitText", "unitCode", "duration"]
            .into_iter()
            .find_map(|name| unit_of(&graph.text(range, name).or_else(|| graph.text(amount, name))?));
        sound(salary)
    })
}

fn currency<'a>(graph: &Graph<'a>, object: &'a Map<String, Value>, name: &str) -> Option<String> {
    currency_of(&graph.text(object, name)?)
}

fn number(value: Option<&Value>) -> Option<f64> {
    match value? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => amount(text.trim()),
        Value::Array(values) => number(values.first()),
        _ => None,
    }
}

/// A salary that can be one: above 0, within bounds, its ends in order.
fn sound(mut salary: Salary) -> Option<Salary> {
    let is_sound = |amount: &f64| *amount > 0.0 && *amount <= SALARY_MAX;
    salary.min = salary.min.filter(is_sound);
    salary.max = salary.max.filter(is_sound);
    if let (Some(min), Some(max)) = (salary.min, salary.max)
        && min > max
    {
        (salary.min, salary.max) = (Some(max), Some(min));
    }
    (salary.min.is_some() || salary.max.is_some()).then_some(salary)
}

static AMOUNT: LazyLock<Regex> = LazyLock::new(|| {
    #[expect(clippy::unwrap_used, reason = "the pattern is a constant")]
    Regex::new(r"\d{1,3}(?:[.,' \u{a0}\u{202f}]\d{3})+(?:[.,]\d{1,2})?|\d+(?:[.,]\d{1,2})?").unwrap()
});

/// A salary in a labelled text, such as "€ 2,901 – 3,707 gross per month" or "42.000 EUR brutto
/// jährlich". Without a currency beside a number there is none: grades and percentages are numbers
/// too.
pub(crate) fn salary_in_text(text: &str) -> Option<Salary> {
    let text: String = text.chars().take(300).collect();
    let (at, symbol_length, currency) = find_currency(&text)?;
    // The number stands at the currency, before or behind.
    let behind =
        text[at + symbol_length..].trim_start_matches(|c: char| c.is_whitespace() || c == '.' || c == ':');
    let (region, is_behind) =
        if behind.starts_with(|c: char| c.is_ascii_digit()) { (behind, true) } else { (&text[..at], false) };
    let found: Vec<(f64, usize, usize)> = AMOUNT
        .find_iter(region)
        .filter_map(|found| Some((amount(found.as_str())?, found.start(), found.end())))
        .collect();
    let (first, second) = if is_behind {
        let first = found.first()?;
        let second = found.get(1).filter(|next| joins(&region[first.2..next.1]));
        (first.0, second.map(|next| next.0))
    } else {
        let last = found.last()?;
        if region[last.2..].trim().chars().count() > 1 {
            return None;
        }
        let before = found
            .len()
            .checked_sub(2)
            .and_then(|index| found.get(index))
            .filter(|before| joins(&region[before.2..last.1]));
        (before.map_or(last.0, |before| before.0), before.map(|_| last.0))
    };
    let folded = fold(&text);
    sound(Salary {
        min: Some(first),
        max: Some(second.unwrap_or(first)),
        currency: Some(currency.to_owned()),
        unit: UNITS.iter().find_map(|(word, unit)| folded.contains(word).then_some(*unit)),
    })
}

/// Whether what stands between two amounts makes a range of them.
fn joins(between: &str) -> bool {
    let between: String =
        fold(between).chars().filter(|c| !matches!(c, '€' | '$' | '£' | ' ' | '.' | ',')).collect();
    matches!(
        between.as_str(),
        "-" | "to"
            | "bis"
            | "a"
            | "and"
            | "und"
            | "until"
            | "tot"
            | "till"
            | "til"
            | "et"
            | "y"
            | "e"
            | "eur-"
            | "chf-"
            | "gbp-"
            | "usd-"
            | "-eur"
            | "-chf"
            | "-gbp"
            | "-usd"
            | "euro-"
            | "-euro"
            | "kr-"
            | "per"
            | "--"
    )
}

const UNITS: &[(&str, SalaryUnit)] = &[
    ("per hour", SalaryUnit::Hour),
    ("/h", SalaryUnit::Hour),
    ("hourly", SalaryUnit::Hour),
    ("pro stunde", SalaryUnit::Hour),
    ("par heure", SalaryUnit::Hour),
    ("per month", SalaryUnit::Month),
    ("month", SalaryUnit::Month),
    ("monat", SalaryUnit::Month),
    ("mois", SalaryUnit::Month),
    ("mensuel", SalaryUnit::Month),
    ("mes", SalaryUnit::Month),
    ("mese", SalaryUnit::Month),
    ("maand", SalaryUnit::Month),
    ("manad", SalaryUnit::Month),
    ("maned", SalaryUnit::Month),
    ("annum", SalaryUnit::Year),
    ("annual", SalaryUnit::Year),
    ("year", SalaryUnit::Year),
    ("p.a.", SalaryUnit::Year),
    ("jahr", SalaryUnit::Year),
    ("jahrlich", SalaryUnit::Year),
    ("par an", SalaryUnit::Year),
    ("annuel", SalaryUnit::Year),
    ("anual", SalaryUnit::Year),
    ("annuo", SalaryUnit::Year),
    ("jaar", SalaryUnit::Year),
    ("aarlig", SalaryUnit::Year),
    ("per day", SalaryUnit::Day),
    ("per week", SalaryUnit::Week),
    ("weekly", SalaryUnit::Week),
];

fn unit_of(text: &str) -> Option<SalaryUnit> {
    Some(match fold(text).rsplit('/').next()?.trim() {
        "hour" | "hourly" | "hur" | "h" | "per hour" | "stunde" => SalaryUnit::Hour,
        "day" | "daily" | "per day" | "tag" => SalaryUnit::Day,
        "week" | "weekly" | "wee" | "per week" | "woche" => SalaryUnit::Week,
        "month" | "monthly" | "mon" | "per month" | "monat" | "mois" | "p1m" => SalaryUnit::Month,
        "year" | "yearly" | "annual" | "annually" | "ann" | "per year" | "jahr" | "an" | "p1y" | "annum" => {
            SalaryUnit::Year
        }
        _ => return None,
    })
}

/// Currencies by code and by symbol. A dollar sign alone means several and is none.
const CODES: &[&str] = &[
    "EUR", "USD", "GBP", "CHF", "SEK", "NOK", "DKK", "CAD", "AUD", "NZD", "JPY", "CNY", "PLN", "CZK", "HUF",
    "RON", "BGN", "TRY", "INR", "BRL", "MXN", "ZAR", "SGD", "HKD", "KRW", "ILS", "AED", "SAR", "ISK", "CLP",
    "COP", "ARS", "THB", "MYR",
];

fn currency_of(text: &str) -> Option<String> {
    let text = text.trim();
    let upper = text.to_ascii_uppercase();
    if upper.len() == 3 && upper.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Some(upper);
    }
    find_currency(text).map(|(_, _, code)| code.to_owned())
}

fn find_currency(text: &str) -> Option<(usize, usize, &'static str)> {
    for (symbol, code) in
        [("€", "EUR"), ("£", "GBP"), ("US$", "USD"), ("C$", "CAD"), ("A$", "AUD"), ("¥", "JPY")]
    {
        if let Some(at) = text.find(symbol) {
            return Some((at, symbol.len(), code));
        }
    }
    let is_letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
    for code in CODES {
        for (at, _) in text.match_indices(code) {
            let end = at + code.len();
            if !is_letter(text[..at].chars().next_back()) && !is_letter(text[end..].chars().next()) {
                return Some((at, code.len(), code));
            }
        }
    }
    for word in ["euros", "Euros", "euro", "Euro"] {
        if let Some(at) = text.find(word) {
            return Some((at, word.len(), "EUR"));
        }
    }
    None
}

/// A number as people write it: `2,901.50`, `2.901,50`, `2 901`, `2'901`, `42000`, `42k`.
fn amount(text: &str) -> Option<f64> {
    let text: String = text.chars().filter(|c| !c.is_whitespace() && *c != '\'' && *c != '’').collect();
    let text = text.trim_matches(|c: char| !c.is_ascii_digit());
    if text.len() > 20 {
        return None;
    }
    let last = text.rfind(['.', ',']);
    let normal = match last {
        // A separator before one or two digits at the end is the decimal one.
        Some(at) if text.len() - at <= 3 => {
            let (whole, decimals) = text.split_at(at);
            format!("{}.{}", whole.replace(['.', ','], ""), &decimals[1..])
        }
        _ => text.replace(['.', ','], ""),
    };
    normal.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn show(salary: Option<Salary>) -> String {
        salary.map_or("none".to_owned(), |s| {
            format!(
                "{:?}-{:?} {} {:?}",
                s.min.unwrap_or(-1.0),
                s.max.unwrap_or(-1.0),
                s.currency.unwrap_or_default(),
                s.unit
            )
        })
    }

    #[test]
    fn structured_salaries_are_read_in_all_their_forms() {
        for (salary, expected) in [
            (
                json!({"@type": "MonetaryAmount", "currency": "EUR",
                    "value": {"@type": "QuantitativeValue", "minValue": 3000, "maxValue": 4000.5, "unitText": "MONTH"}}),
                "3000.0-4000.5 EUR Some(Month)",
            ),
            (
                json!({"currency": "usd", "value": {"value": "52,000", "unitText": "Year"}}),
                "52000.0-52000.0 USD Some(Year)",
            ),
            (json!({"currency": "GBP", "value": 100}), "100.0-100.0 GBP None"),
            (json!({"currency": "GBP", "minValue": 5, "maxValue": 3}), "3.0-5.0 GBP None"),
            (json!("€ 2,901 – 3,707 per month"), "2901.0-3707.0 EUR Some(Month)"),
            (json!({"currency": "EUR", "value": {"minValue": 0, "maxValue": 0}}), "none"),
            (json!({"currency": "EUR", "value": {"value": null}}), "none"),
            (json!("competitive"), "none"),
        ] {
            let posting = json!({"baseSalary": salary});
            let values = [posting];
            assert_eq!(
                show(salary_of(&Graph::new(&values), values[0].as_object().unwrap())),
                expected,
                "{values:?}"
            );
        }
        let values = [json!({"baseSalary": 50000, "salaryCurrency": "EUR"})];
        assert_eq!(
            show(salary_of(&Graph::new(&values), values[0].as_object().unwrap())),
            "50000.0-50000.0 EUR None"
        );
    }

    #[test]
    fn amounts_in_text_need_a_currency() {
        for (text, expected) in [
            ("€2,901 to €3,707 gross per month", "2901.0-3707.0 EUR Some(Month)"),
            ("42.000 EUR brutto jährlich", "42000.0-42000.0 EUR Some(Year)"),
            ("£37,099 - £45,585 per annum", "37099.0-45585.0 GBP Some(Year)"),
            ("2 300 € brut par mois", "2300.0-2300.0 EUR Some(Month)"),
            ("CHF 50'000 p.a.", "50000.0-50000.0 CHF Some(Year)"),
            ("TV-L E13, 65 %", "none"),
            ("competitive", "none"),
            ("$ 5000", "none"),
        ] {
            assert_eq!(show(salary_in_text(text)), expected, "{text}");
        }
    }
}
