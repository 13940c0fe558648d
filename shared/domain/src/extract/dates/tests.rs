use super::*;

fn instant(text: &str, order: SlashOrder) -> String {
    match read_structured(text, order) {
        Ok(moment) => format!("{} {}", moment.date, moment.instant),
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn structured_dates_become_instants_and_the_publishers_day() {
    for (text, expected) in [
        ("2026-12-31", "2026-12-31 2027-01-01T11:59:59Z"),
        ("2026-12-31T23:59:00+01:00", "2026-12-31 2026-12-31T22:59:00Z"),
        ("2026-12-31T23:59:00Z", "2026-12-31 2026-12-31T23:59:00Z"),
        ("2026-12-31T23:59", "2026-12-31 2027-01-01T11:59:00Z"),
        ("2026-12-31 23:59:59.123 +0100", "2026-12-31 2026-12-31T22:59:59Z"),
        ("2026-12-31T00:00:00-0500", "2026-12-31 2026-12-31T05:00:00Z"),
        ("20261231", "2026-12-31 2027-01-01T11:59:59Z"),
        ("2026-12-31T24:00:00Z", "2026-12-31 2026-12-31T23:59:59Z"),
        ("31 December 2026", "2026-12-31 2027-01-01T11:59:59Z"),
        ("Thu, 31 Dec 2026 23:59:00 GMT", "2026-12-31 2026-12-31T23:59:00Z"),
        ("2026-02-30", "Impossible"),
        ("2026-13-01", "Impossible"),
        ("9999-12-31", "Impossible"),
        ("0000-00-00", "Impossible"),
        ("31 February 2026", "Impossible"),
        ("until filled", "Absent"),
        ("", "Absent"),
        ("31 December", "Absent"),
    ] {
        assert_eq!(instant(text, SlashOrder::Unknown), expected, "{text:?}");
    }
}

#[test]
fn dates_are_read_in_the_languages_of_the_catalogue() {
    for text in [
        "31 December 2026",
        "31st December, 2026",
        "31st of December 2026",
        "December 31, 2026",
        "Dec. 31st 2026",
        "Thursday, 31 December 2026",
        "31. Dezember 2026",
        "31.12.2026",
        "31. 12. 2026",
        "bis zum 31.12.2026",
        "31 décembre 2026",
        "31 de diciembre de 2026",
        "31 dicembre 2026",
        "31 de dezembro de 2026",
        "31 december 2026",
        "31. desember 2026",
        "den 31. december 2026",
        "31. joulukuuta 2026",
        "31/12/2026",
        "12/31/2026",
        "31-12-2026",
        "31-Dec-2026",
        "2026-12-31",
        "2026/12/31",
        "between now and 31 December 2026 (extended)",
    ] {
        let moment = find_in_text(text, SlashOrder::Unknown);
        assert_eq!(moment.map(|m| m.date.to_string()), Ok("2026-12-31".to_owned()), "{text}");
    }
    for (text, day) in [
        ("1er mars 2027", "2027-03-01"),
        ("1º de maio de 2027", "2027-05-01"),
        ("15 août 2027", "2027-08-15"),
        ("3. März 2027", "2027-03-03"),
        ("1. Jänner 2027", "2027-01-01"),
        ("5 mai 2027", "2027-05-05"),
        ("2 maart 2027", "2027-03-02"),
        ("7. huhtikuuta 2027", "2027-04-07"),
        ("12 sept. 2027", "2027-09-12"),
    ] {
        let moment = find_in_text(text, SlashOrder::Unknown);
        assert_eq!(moment.map(|m| m.date.to_string()), Ok(day.to_owned()), "{text}");
    }
}

#[test]
fn a_slashed_date_is_read_only_as_its_language_writes_it() {
    for (order, expected) in [
        (SlashOrder::DayFirst, Ok("2026-04-03".to_owned())),
        (SlashOrder::MonthFirst, Ok("2026-03-04".to_owned())),
        (SlashOrder::Unknown, Err(NoDate::Ambiguous)),
    ] {
        assert_eq!(find_in_text("03/04/2026", order).map(|m| m.date.to_string()), expected);
    }
    assert_eq!(SlashOrder::of_language(Some("en-US")), SlashOrder::MonthFirst);
    assert_eq!(SlashOrder::of_language(Some("fr")), SlashOrder::DayFirst);
    assert_eq!(SlashOrder::of_language(Some("en")), SlashOrder::Unknown);
}

#[test]
fn a_time_at_the_date_counts_with_its_zone() {
    for (text, expected) in [
        ("31 December 2026, 17:00 CET", "2026-12-31T16:00:00Z"),
        ("31 December 2026 at 5 pm GMT", "2026-12-31T17:00:00Z"),
        ("31 December 2026 at 23:59 (UTC+2)", "2026-12-31T21:59:00Z"),
        ("31 December 2026 23:59 AoE", "2027-01-01T11:59:00Z"),
        ("31 December 2026 (anywhere on earth)", "2027-01-01T11:59:59Z"),
        ("31.12.2026, 12:00 Uhr", "2027-01-01T00:00:00Z"),
        ("31.12.2026 um 12:00 Uhr MEZ", "2026-12-31T11:00:00Z"),
        ("31 décembre 2026 à 12h00", "2027-01-01T00:00:00Z"),
        ("31 December 2026, midnight", "2027-01-01T11:59:00Z"),
        ("31 December 2026, noon", "2027-01-01T00:00:00Z"),
        ("17:00 CET on 31 December 2026", "2026-12-31T16:00:00Z"),
        ("31 December 2026 5 positions", "2027-01-01T11:59:59Z"),
        ("31 December 2026. 12 months contract", "2027-01-01T11:59:59Z"),
    ] {
        let moment = find_in_text(text, SlashOrder::Unknown);
        assert_eq!(moment.map(|m| m.instant.to_string()), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn a_local_midnight_in_utc_contradicts_neither_of_its_days() {
    let day = |text: &str| text.parse::<Date>().unwrap();
    for (structured, visible, contradicts) in [
        ("2026-12-31", "2026-12-31", false),
        ("2026-12-31", "2027-01-01", true),
        ("2026-12-31T23:00:00Z", "2027-01-01", false),
        ("2026-12-31T00:00:00Z", "2026-12-30", false),
        ("2026-12-31T23:59:59Z", "2027-01-01", true),
        ("2026-12-31T23:59:00+01:00", "2026-12-30", true),
        ("2026-12-31T23:00:00Z", "2027-01-15", true),
    ] {
        let moment = read_structured(structured, SlashOrder::Unknown).unwrap();
        assert_eq!(moment.contradicts(day(visible)), contradicts, "{structured} {visible}");
    }
}

#[test]
fn the_api_reads_a_time_only_with_its_offset() {
    for (text, is_read) in [
        ("2026-12-31T23:59:00Z", true),
        ("2026-12-31T23:59:00+01:00", true),
        ("2026-12-31t23:59:00.25z", true),
        (" 2026-12-31 23:59:60-03:30 ", true),
        ("2026-12-31", true),
        ("2026-12-31T23:59:00+01:00[Europe/Paris]", false),
        ("20261231T235900Z", false),
        ("2026-12-31T24:00:00Z", false),
        ("2026-02-29T12:00:00Z", false),
        ("9999-12-31T00:00:00Z", false),
        ("31. 12. 2026T12:00Z", false),
        ("2026-12-31T23:59:00", false),
        ("31 December 2026", false),
    ] {
        assert_eq!(read_rfc3339(text).is_some(), is_read, "{text}");
    }
    let instant = read_rfc3339("2026-12-31T23:59:00.75-03:30").map(|moment| moment.instant.to_string());
    assert_eq!(instant.as_deref(), Some("2027-01-01T03:29:00Z"));
}
