use super::*;

/// The tree as nested lists of names and texts.
fn tree(page: &str) -> String {
    let dom = Dom::parse(page, &mut Warnings::default());
    let mut out = String::new();
    dom.walk(Dom::ROOT, |step| {
        match step {
            Step::Enter(node) => match (dom.name(node), dom.text(node)) {
                (Some(name), _) => {
                    out.push_str(name);
                    out.push('(');
                }
                (None, Some(text)) => {
                    out.push_str(text.trim());
                    return false;
                }
                (None, None) => {}
            },
            Step::Leave(node) if node != Dom::ROOT => out.push(')'),
            Step::Leave(_) => {}
        }
        true
    });
    out
}

#[test]
fn what_is_left_open_is_closed_as_browsers_do() {
    for (page, expected) in [
        ("<p>a<p>b", "p(a)p(b)"),
        ("<p>a<div>b</div>c", "p(a)div(b)c"),
        ("<ul><li>a<li>b<ul><li>c</ul></ul>", "ul(li(a)li(bul(li(c))))"),
        ("<dl><dt>a<dd>b<dt>c<dd>d</dl>e", "dl(dt(a)dd(b)dt(c)dd(d))e"),
        ("<table><tr><th>a<td>b<tr><td>c</table>d", "table(tr(th(a)td(b))tr(td(c)))d"),
        ("<b><p>a</b>c</p>d", "b(p(ac)d)"),
        ("<div><span>a</div>b", "div(span(a))b"),
        ("<td><div>a</td></div>b", "td(div(a))b"),
        ("<h1>a<h2>b</h2>", "h1(a)h2(b)"),
        ("<h1>a</h2>b", "h1(a)b"),
        ("<br/>a<img src=x>b", "br()aimg()b"),
        ("<div/>a</div>b", "div(a)b"),
        ("<svg><path/></svg>a", "svg(path())a"),
        ("</p></div>a", "a"),
        ("<a href=1>x<a href=2>y", "a(x)a(y)"),
        ("<head><title>t</title><p>a", "head(title(t))p(a)"),
        ("<script>a<b</script><style>c</style>d", "script()style()d"),
        ("<script type='application/ld+json'>{\"a\": \"</p>\"}</script>", "script({\"a\": \"</p>\"})"),
        ("<textarea><p></textarea>x", "textarea(<p>)x"),
        ("a &amp; b &#233; &nbsp;c", "a & b é \u{a0}c"),
        ("", ""),
    ] {
        assert_eq!(tree(page), expected, "{page}");
    }
}

#[test]
fn attributes_are_kept_by_name_and_decoded() {
    let page = "<a HREF='/x?a=1&amp;b=2' onclick=evil() class=\"k l\">";
    let dom = Dom::parse(page, &mut Warnings::default());
    let link = dom.elements(Dom::ROOT, local_name!("a")).next().unwrap();
    assert_eq!(dom.attribute(link, "href"), Some("/x?a=1&b=2"));
    assert_eq!(dom.attribute(link, "class"), Some("k l"));
    assert_eq!(dom.attribute(link, "onclick"), None);
}

#[test]
fn depth_and_size_are_bounded_with_a_remark() {
    let mut warnings = Warnings::default();
    let deep = format!("{}x{}<p>after", "<div>".repeat(50_000), "</div>".repeat(50_000));
    let dom = Dom::parse(&deep, &mut warnings);
    let after = dom.elements(Dom::ROOT, local_name!("p")).next().unwrap();
    assert_eq!(dom.parent(after), Some(Dom::ROOT));
    let many = "<b>x".repeat(400_000);
    let dom = Dom::parse(&many, &mut warnings);
    assert!(dom.nodes.len() <= 120_000);
    let codes: Vec<_> = warnings.into_list().into_iter().map(|warning| warning.code).collect();
    assert_eq!(codes, ["page_flattened", "page_cut"]);
}
