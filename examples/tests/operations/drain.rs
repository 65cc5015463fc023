//! Moving: one connection by command, all of them by draining.

use serde_json::json;

use crate::Bed;
use crate::client::Client;
use crate::look::counter;
use crate::site::{curl, url, wait_until};
use crate::traffic::{Load, while_downloading};

/// A live connection goes from the server that has it to the one that its operator names, and then home.
pub fn a_connection_moves_by_command(bed: &Bed) {
    let (mut client, head) = Client::migrated(bed.farm, "/", "s2");
    client.body(&head).unwrap();
    let address = client.address();
    let row = |server: usize, table: &str| {
        let rows = bed.rows(server, table);
        let flow = format!("tcp {address} > ");
        rows.into_iter().find(|row| {
            let text = row["flow"].as_str();
            text.is_some_and(|text| text.starts_with(&flow))
        })
    };
    let flow = row(1, "forward-connect").unwrap()["flow"].clone();
    let told = json!({ "flow": flow, "to": "s3" }).to_string();
    let answer = bed.json(1, "/migrate", &["-d", &told]);
    assert_eq!((&answer["flow"], &answer["to"]), (&flow, &"s3".into()));
    wait_until("it is at s3, and s1 knows", || {
        let moved = row(2, "forward-connect").is_some_and(|row| row["state"] == "ESTABLISHED");
        moved && row(0, "forward").is_some_and(|row| row["server"] == "s3")
    });
    assert_eq!(client.get("/").unwrap().server, "s3");
    // The first server, which has none of it, has it come home.
    client.body(&head).unwrap();
    let told = json!({ "flow": flow, "to": "s1" }).to_string();
    bed.json(0, "/migrate", &["-d", &told]);
    wait_until("it is at home", || {
        row(0, "local").is_some_and(|row| row["state"] == "ESTABLISHED")
    });
    assert_eq!(client.get("/").unwrap().server, "s1");
    let told = json!({ "flow": flow, "to": "s9" }).to_string();
    let (status, error) = bed.refused(0, "/migrate", &["-d", &told]);
    assert_eq!(
        (status.as_str(), error.as_str()),
        ("404", "to: s9: no live server has this name")
    );
}

/// Draining moves connections that are in use, and ends while the load goes on; nobody sees an error.
pub fn a_server_drains_under_load(bed: &Bed) {
    let site = &bed.sites[0];
    // Of several segments, and of one: its client acknowledges an answer with the next request.
    let loads = ["/page", "/"].map(|path| Load::start(bed, site.server, path));
    let (mut idle, head) = Client::migrated(bed.farm, "/", "s1");
    idle.body(&head).unwrap();
    wait_until("the load has come", || {
        bed.json(0, "/healthz", &[])["connections"].as_u64() > Some(1)
    });
    while_downloading(bed, site.server, || {
        let told = bed.json(0, "/drain", &["-d", ""]);
        assert_eq!(told["draining"], true);
        assert!(told["began_with"].as_u64() > Some(1), "{told}");
        wait_until("the other servers know", || {
            bed.rows(1, "server-state")
                .iter()
                .any(|row| (&row["name"], &row["draining"]) == (&"s1".into(), &true.into()))
        });
    });
    wait_until("drained", || bed.json(0, "/drain", &[])["drained"] == true);
    let told = bed.json(0, "/drain", &[]);
    println!("{told}");
    assert!(told["moved"].as_u64() > Some(1), "{told}");
    assert!(told["forwarded"].as_u64() > Some(0), "{told}");
    let served = counter(bed, 0, "ipos_local_total");
    assert_ne!(idle.get("/").unwrap().server, "s1");
    for _ in 0..6 {
        assert_ne!(curl(bed.farm.client(), &[&url(site.server, "/")]), "s1");
    }
    for load in loads {
        assert!(load.end() > 0);
    }
    assert_eq!(
        counter(bed, 0, "ipos_local_total"),
        served,
        "nothing new is served here"
    );
    wait_until("the log says so", || {
        site.logged("drained: nothing is served here") == 1
    });
    assert_eq!(bed.json(0, "/undrain", &["-d", ""])["draining"], false);
    wait_until("it is selected again", || {
        curl(bed.farm.client(), &[&url(site.server, "/")]) == "s1"
    });
}
