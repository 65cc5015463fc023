//! The outcome as text.

use std::fmt::Write;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::{Outcome, Percentiles, ServerOutcome};

/// The table for people.
pub fn table(outcome: &Outcome) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "server",
        "served",
        "local",
        "migrated out",
        "migrated in",
        "share",
        "expected",
    ]);
    for server in &outcome.servers {
        let ServerOutcome {
            name,
            served,
            local,
            migrated_out,
            migrated_in,
            share,
            expected_share,
        } = server;
        table.add_row([
            name.clone(),
            served.to_string(),
            local.to_string(),
            migrated_out.to_string(),
            migrated_in.to_string(),
            format!("{share:.3}"),
            format!("{expected_share:.3}"),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let Outcome {
        fabric,
        requests,
        errors,
        policy,
        latency_us,
        migration_us,
        first_byte_us,
        client,
        seed,
        remarks,
        ..
    } = outcome;
    let mut text = format!("{table}\n");
    let mut line = |what: &str, value: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{what:<11}{value}");
    };
    line("fabric", format!("{fabric}, policy {policy}, seed {seed}"));
    line("client", client.clone());
    line("requests", format!("{requests}, of which {errors} failed"));
    line("latency", percentiles(latency_us));
    line("migration", percentiles(migration_us));
    if first_byte_us.migrated.p50.is_some() {
        line(
            "first byte",
            format!(
                "local {}; migrated {}",
                percentiles(&first_byte_us.local),
                percentiles(&first_byte_us.migrated)
            ),
        );
    }
    for remark in remarks {
        line("remark", remark.clone());
    }
    text
}

fn percentiles(percentiles: &Percentiles) -> String {
    let value = |value: Option<u64>| {
        value.map_or_else(|| "none measured".to_owned(), |value| format!("{value} µs"))
    };
    format!(
        "p50 {}, p99 {}",
        value(percentiles.p50),
        value(percentiles.p99)
    )
}
