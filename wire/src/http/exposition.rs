//! Prometheus's text format (0.0.4) from OpenMetrics text, for whoever asks without naming OpenMetrics: a browser, curl,
//! `promtool check metrics`. The two differ in the names of counters (the older one names the samples, `_total`
//! included), in the word for an unknown type, and in what only the newer one has (units, exemplars, the end mark).

/// The same metrics in the older format.
pub fn classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len() + 1024);
    // Help comes before the type, and its name depends on the type.
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let kind = match kind {
                "unknown" => "untyped",
                "info" | "stateset" | "gaugehistogram" => "gauge",
                kind => kind,
            };
            if let Some((_, text)) = help.take().filter(|(of, _)| *of == name) {
                out.push_str(&format!("# HELP {name}{suffix} {text}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            // An exemplar stands behind the value.
            let end = line.find(" # {").unwrap_or(line.len());
            out.push_str(&line[..end]);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::classic;

    #[test]
    fn counters_types_and_marks() {
        let open = "# HELP a Things.\n# TYPE a counter\na_total{x=\"1\"} 2 # {trace_id=\"f\"} 1\n\
            # HELP b Other things.\n# TYPE b unknown\nb 3\n\
            # HELP c_seconds Time.\n# TYPE c_seconds histogram\n# UNIT c_seconds seconds\nc_seconds_sum 0.5\n# EOF\n";
        assert_eq!(
            classic(open),
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"1\"} 2\n\
             # HELP b Other things.\n# TYPE b untyped\nb 3\n\
             # HELP c_seconds Time.\n# TYPE c_seconds histogram\nc_seconds_sum 0.5\n"
        );
    }
}
