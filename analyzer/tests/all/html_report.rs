//! The HTML report: one file that needs nothing else, looked at in a real browser.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::fixture::chromium::Browser;
use crate::fixture::{APPLICATION, event_log, executors, expect, report, rows};
use serde_json::{Value, json};
use tests::record_set::RecordSet;

/// Ingests and makes the page.
fn page(folder: &Path, inputs: &[&str], more: &[&str]) -> PathBuf {
    let mut arguments = vec!["ingest", "--quiet"];
    arguments.extend(inputs);
    expect(folder, 0, &arguments);
    let mut arguments = vec!["report", "--format", "html"];
    arguments.extend(more);
    let (html, _) = expect(folder, 0, &arguments);
    let file = folder.join("report.html");
    fs::write(&file, html).unwrap();
    file
}

/// The text of every cell of the table of figures' body.
fn cells(browser: &mut Browser) -> Vec<Vec<String>> {
    let rows = browser.evaluate(
        "[...document.querySelector('#table').tBodies[0].rows].map(row => [...row.cells].map(cell => cell.textContent))",
    );
    serde_json::from_value(rows).unwrap()
}

fn heads(browser: &mut Browser) -> Vec<String> {
    let heads =
        browser.evaluate("[...document.querySelectorAll('#table th')].map(one => one.textContent)");
    serde_json::from_value(heads).unwrap()
}

#[test]
fn a_page_that_is_looked_at_and_clicked() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for writer in executors() {
        writer.save(&at.join("records"));
    }
    let log = event_log();
    let file = page(at, &["records", "--event-log", log.to_str().unwrap()], &[]);
    let html = fs::read_to_string(&file).unwrap();
    // The one address in it is a name: of SVG's elements.
    let outside = html.replace("http://www.w3.org/2000/svg", "");
    for word in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!outside.contains(word), "{word}");
    }
    let Some(mut browser) = Browser::open("a_page_that_is_looked_at_and_clicked", &file) else {
        return;
    };
    // The figures are those of the JSON report.
    let json = report(at, &["--by", "stage"]);
    let (head, shown) = (heads(&mut browser), cells(&mut browser));
    assert_eq!(shown.len(), rows(&json).len());
    for (row, cells) in rows(&json).iter().zip(&shown) {
        for (name, cell) in head.iter().zip(cells).filter(|(name, _)| !row[name.as_str()].is_null())
        {
            let expected = match &row[name.as_str()] {
                Value::String(text) => text.clone(),
                number => number.to_string(),
            };
            assert_eq!(cell.replace(',', ""), expected, "{name}");
        }
        let column = head.iter().position(|name| name == "instructions").unwrap();
        assert_eq!((&row["instructions"], cells[column].as_str()), (&Value::Null, "-"));
    }
    // Tasks, sorted by a click on a head: first the largest, then the smallest.
    browser.click("#tabs button:last-child", (0.5, 0.5));
    assert_eq!(cells(&mut browser).len(), 10);
    let column = heads(&mut browser).iter().position(|name| name == "file_bytes_in").unwrap();
    let head = format!("#table th:nth-child({})", column + 1);
    for is_ascending in [false, true] {
        browser.evaluate(&format!(
            "document.querySelector('{head}').scrollIntoView({{inline: 'center'}})"
        ));
        browser.click(&head, (0.5, 0.5));
        let values: Vec<u64> = cells(&mut browser)
            .iter()
            .map(|row| row[column].replace(',', "").parse().unwrap())
            .collect();
        assert_eq!(values.is_sorted(), is_ascending, "{values:?}");
        assert_ne!(values.first(), values.last());
    }
    // What is wrong with the application comes first, as in JSON, and what it is called.
    let json = report(at, &[]);
    let found = browser.evaluate("document.querySelectorAll('#findings .finding').length");
    assert_eq!(found.as_u64(), json["findings"].as_array().map(|all| all.len() as u64));
    let facts = browser.evaluate("document.querySelector('#facts').textContent");
    assert!(
        facts.as_str().unwrap().starts_with("word count, app-20261121034702-0000, user root"),
        "{facts}"
    );
    // A filter.
    browser.click("#filter", (0.5, 0.5));
    browser.type_text("127.0.0.2");
    assert_eq!(cells(&mut browser).len(), 5);
    assert!(cells(&mut browser).iter().all(|row| row[1] == "127.0.0.2"));
    // What is chosen is in the address, and what is shown can be taken along.
    let address = browser.evaluate("location.hash");
    assert!(address.as_str().unwrap().contains("filter=127.0.0.2"), "{address}");
    let csv = browser.evaluate("csv()");
    assert_eq!(csv.as_str().unwrap().lines().count(), 6, "{csv}");
    // Spaces do no harm, and a filter that nothing fits says so.
    for (filter, expected) in
        [("stage = 0", 7), ("stage=0  syscall_calls >= 1", 7), ("no such row", 0)]
    {
        browser.evaluate("document.querySelector('#filter').value = ''");
        browser.click("#filter", (0.5, 0.5));
        browser.type_text(filter);
        assert_eq!(cells(&mut browser).len(), expected, "{filter}");
    }
    let said = browser.evaluate("document.querySelector('#count').textContent");
    assert!(said.as_str().unwrap().starts_with("no row fits the filter"), "{said}");
    // Any figure of which something is known has its spread.
    let known = browser.evaluate(
        "data.figures.filter(one => data.spreads.some(spread => spread.measure === one.name)).length",
    );
    assert!(known.as_u64() > Some(100), "{known}");
    // On a phone nothing is wider than the screen.
    let narrow = json!({"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": true});
    browser.call("Emulation.setDeviceMetricsOverride", &narrow);
    let widths = browser.evaluate("[document.documentElement.scrollWidth, innerWidth]");
    assert!(widths[0].as_u64() <= widths[1].as_u64(), "{widths}");
    browser.call("Emulation.clearDeviceMetricsOverride", &json!({}));
    // A comparison of a figure, beside it: all but the rows whose figure is unknown.
    let json = report(at, &["--by", "task"]);
    let values: Vec<u64> = json["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["spark_cpu_time_ns"].as_u64())
        .collect();
    browser.evaluate("document.querySelector('#filter').value = ''");
    browser.click("#filter", (0.5, 0.5));
    browser.type_text("app- spark_cpu_time_ns>2e8");
    let above = values.iter().filter(|value| **value > 200_000_000).count();
    assert!(above > 0 && above < values.len(), "{values:?}");
    assert_eq!(cells(&mut browser).len(), above);
    // Another metric changes the bars and the spreads.
    let bars = "document.querySelector('#stages').textContent";
    let before = browser.evaluate(bars);
    browser.evaluate(
        "(select => { select.value = [...select.options].find(one => one.textContent === 'spark_cpu_time_ns').value; \
         select.dispatchEvent(new Event('change')); })(document.querySelector('#metric'))",
    );
    assert_ne!(browser.evaluate(bars), before);
    let spread = browser.evaluate("document.querySelector('#spread tr:nth-child(2)').textContent");
    assert!(spread.as_str().unwrap().contains("csv: scan text text.txt > explode"), "{spread}");
    // The distribution of a stage that is chosen, its skew, and the nodes beside each other.
    let drawn = "[...document.querySelectorAll('#histogram rect title')].map(one => parseInt(one.textContent)).reduce((a, b) => a + b, 0)";
    assert_eq!(browser.evaluate(drawn), 7, "tasks of stage 0");
    browser.evaluate(
        "(select => { select.selectedIndex = 1; select.dispatchEvent(new Event('change')); })(document.querySelector('#histogram-stage'))",
    );
    assert_eq!(browser.evaluate(drawn), 1, "tasks of stage 2");
    assert_eq!(browser.evaluate("document.querySelectorAll('#skew .fill').length"), 4);
    let nodes =
        "[...document.querySelectorAll('#compare tr')].map(row => row.cells[0].textContent)";
    assert_eq!(browser.evaluate(nodes), json!(["node", "127.0.0.1", "127.0.0.2"]));
    assert_eq!(
        browser.evaluate("document.querySelectorAll('#compare tr:nth-child(2) td').length"),
        5
    );
    // Jobs stand beside the stages that they begin with.
    assert_eq!(browser.evaluate("document.querySelectorAll('#dag rect.job').length"), 4);
    // A click on the first executor's lane names a task.
    let mut detail = Value::Null;
    for part in 1..60 {
        browser.click("#timeline", (0.1 + f64::from(part) * 0.015, 0.1));
        detail = browser.evaluate("document.querySelector('#detail').textContent");
        if detail != "" {
            break;
        }
    }
    assert!(detail.as_str().unwrap().starts_with("task "), "{detail}");
    assert!(browser.evaluate("document.querySelectorAll('#dag rect').length").as_u64() >= Some(4));
    // Light and dark.
    let background = "getComputedStyle(document.body).backgroundColor";
    let (one, one_shot) = (browser.evaluate(background), browser.screenshot());
    browser.click("#theme", (0.5, 0.5));
    assert_ne!(browser.evaluate(background), one);
    assert_ne!(browser.screenshot(), one_shot);
    // Something is drawn: a blank page of this size packs to a few kilobytes.
    assert!(one_shot.len() > 20_000, "{}", one_shot.len());
}

/// Tasks whose names would like to be code, and numbers beyond 2^53.
#[test]
fn many_tasks_and_hostile_names() {
    let count: u64 = 5_000;
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let name = "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>\u{1b}[31m";
    let mut log = String::new();
    let mut put = |event: Value| log += &format!("{event}\n");
    put(json!({"Event": "SparkListenerApplicationStart", "App Name": name, "App ID": APPLICATION}));
    put(
        json!({"Event": "SparkListenerStageCompleted", "Stage Info": {"Stage ID": 0, "Stage Attempt ID": 0,
        "Stage Name": name, "Number of Tasks": count, "Parent IDs": []}}),
    );
    for task in 0..count {
        put(json!({"Event": "SparkListenerTaskEnd", "Stage ID": 0, "Stage Attempt ID": 0,
            "Task End Reason": {"Reason": "Success"},
            "Task Info": {"Task ID": task, "Host": name, "Executor ID": (task % 50).to_string(),
                "Launch Time": 1_000 + task / 50 * 7, "Finish Time": 1_006 + task / 50 * 7,
                "Failed": false, "Killed": false},
            "Task Metrics": {"Executor Run Time": task, "Executor CPU Time": 9_007_199_254_740_993_u64}}));
    }
    fs::write(at.join("log"), log).unwrap();
    let file = page(at, &["--event-log", "log"], &[]);
    let Some(mut browser) = Browser::open("many_tasks_and_hostile_names", &file) else { return };
    assert_eq!(browser.evaluate("typeof window.pwned"), "undefined");
    let (head, shown) = (heads(&mut browser), cells(&mut browser));
    let of =
        |name: &str| shown[0][head.iter().position(|one| one == name).unwrap()].replace(',', "");
    assert_eq!(of("tasks"), count.to_string());
    assert_eq!(
        of("spark_cpu_time_ns"),
        (9_007_199_254_740_993_u128 * u128::from(count)).min(u128::from(u64::MAX)).to_string()
    );
    browser.click("#tabs button:last-child", (0.5, 0.5));
    let (head, shown) = (heads(&mut browser), cells(&mut browser));
    assert_eq!(shown.len(), 100, "a page of them");
    let column = head.iter().position(|one| one == "spark_cpu_time_ns").unwrap();
    assert_eq!(shown[0][column], "9,007,199,254,740,993");
    assert!(shown[0][1].contains("\\x1b[31m"), "{}", shown[0][1]);
    let took = browser
        .evaluate("(start => { render(); return performance.now() - start; })(performance.now())");
    assert!(took.as_f64() < Some(5_000.0), "{took} ms to draw everything anew");
}

/// A page of 100,000 tasks on 40 executors in 20 stages is clicked through, and says how long each click took until
/// it was painted. With SPARKANALYZER_TEST_SHOTS screenshots go to that folder.
#[test]
#[ignore = "minutes with an analyzer of the dev profile"]
fn a_hundred_thousand_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let set = RecordSet {
        nodes: 20,
        executors_per_node: 2,
        tasks_per_executor: 2_500,
        ticks_per_task: 0,
        tasks_per_stage: 5_000,
        ..RecordSet::default()
    };
    set.write_records(&at.join("records")).unwrap();
    let mut log = BufWriter::new(fs::File::create(at.join("log")).unwrap());
    set.write_event_log(&mut log).and_then(|()| log.flush()).unwrap();
    let file = page(at, &["records", "--event-log", "log"], &[]);
    let bytes = fs::metadata(&file).unwrap().len();
    let begin = Instant::now();
    let Some(mut browser) = Browser::open("a_hundred_thousand_tasks", &file) else { return };
    println!(
        "{} tasks, {bytes} bytes: browser and page ready after {:.1?}",
        set.tasks(),
        begin.elapsed()
    );
    let shots = std::env::var_os("SPARKANALYZER_TEST_SHOTS").map(PathBuf::from);
    let mut slowest = Duration::ZERO;
    let mut clicked = |browser: &mut Browser, what: &str, act: &dyn Fn(&mut Browser)| {
        let begin = Instant::now();
        act(browser);
        browser.wait_until_painted();
        let took = begin.elapsed();
        println!("{what}: {took:.0?}");
        slowest = slowest.max(took);
        if let Some(shots) = &shots {
            let name = format!("{}.png.base64", what.replace(' ', "-"));
            fs::write(shots.join(name), browser.screenshot()).unwrap();
        }
    };
    clicked(&mut browser, "opened", &|_| {});
    for (what, selector) in [
        ("timeline zoomed in", "#in"),
        ("timeline zoomed in again", "#in"),
        ("timeline later", "#right"),
        ("timeline zoomed out", "#out"),
        ("dark", "#theme"),
        ("jobs and stages in dark", "#dag svg"),
        ("light", "#theme"),
        ("distribution", "#histogram"),
        ("tasks", "#tabs button:last-child"),
        ("tasks sorted", "#table th:nth-child(9)"),
        ("tasks sorted the other way", "#table th:nth-child(9)"),
        ("next page", "#next"),
        ("nodes", "#tabs button:nth-child(3)"),
    ] {
        clicked(&mut browser, what, &|browser| browser.click(selector, (0.5, 0.5)));
    }
    clicked(&mut browser, "task in the timeline", &|browser| {
        browser.click("#timeline", (0.3, 0.21));
    });
    let detail = browser.evaluate("document.querySelector('#detail').textContent");
    assert!(detail.as_str().unwrap().starts_with("task "), "{detail}");
    browser.click("#tabs button:last-child", (0.5, 0.5));
    browser.click("#filter", (0.5, 0.5));
    clicked(&mut browser, "filtered", &|browser| {
        browser.type_text("generated-00007 instructions>9e8")
    });
    let found = browser.evaluate("document.querySelector('#count').textContent");
    // As the set's description says.
    let is_found = |task: &u64| {
        set.node_of(set.executor_of(*task)) == "generated-00007"
            && set.work_of(*task)[records::metric::INSTRUCTIONS] > 900_000_000
    };
    let expected = (0..set.tasks()).filter(is_found).count();
    let found = found.as_str().unwrap().to_owned();
    assert!(found.starts_with(&format!("{expected} of {} rows", set.tasks())), "{found}");
    for (what, selector, index) in
        [("another metric", "#metric", 12), ("another stage", "#histogram-stage", 7)]
    {
        let choose = format!(
            "(select => {{ select.selectedIndex = {index}; select.dispatchEvent(new Event('change')); \
             select.scrollIntoView({{block: 'center'}}); }})(document.querySelector('{selector}'))"
        );
        clicked(&mut browser, what, &|browser| drop(browser.evaluate(&choose)));
    }
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}
