//! The HTML report: one file that needs nothing else, looked at in a real browser.

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};

use fixture::chromium::Browser;
use fixture::{APPLICATION, event_log, executors, expect, report};
use serde_json::{Value, json};

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
    assert_eq!(shown.len(), json["rows"].as_array().unwrap().len());
    for (row, cells) in json["rows"].as_array().unwrap().iter().zip(&shown) {
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
    // A filter.
    browser.click("#filter", (0.5, 0.5));
    browser.type_text("127.0.0.2");
    assert_eq!(cells(&mut browser).len(), 5);
    assert!(cells(&mut browser).iter().all(|row| row[1] == "127.0.0.2"));
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
    assert!(
        spread.as_str().unwrap().contains("csv at NativeMethodAccessorImpl.java:0"),
        "{spread}"
    );
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

#[test]
fn many_tasks_and_hostile_names() {
    look_at_many_tasks("many_tasks_and_hostile_names", 5_000);
}

#[test]
#[ignore = "minutes with an analyzer of the dev profile"]
fn a_hundred_thousand_tasks() {
    look_at_many_tasks("a_hundred_thousand_tasks", 100_000);
}

/// Tasks whose names would like to be code, and numbers beyond 2^53.
fn look_at_many_tasks(test: &str, count: u64) {
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
    let Some(mut browser) = Browser::open(test, &file) else { return };
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
