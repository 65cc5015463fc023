use super::*;
use crate::farm::Interrupt;

fn plan(fabric: Fabric) -> Plan {
    Plan {
        fabric,
        servers: 3,
        listen: "127.0.0.1:0".parse().unwrap(),
    }
}

/// Visits, until all servers have answered and connections have moved.
fn everybody_answers(fabric: Fabric) {
    let farm = AxumFarm::start(&plan(fabric)).unwrap();
    assert_eq!(farm.doors().len(), 3);
    let visits = visitor::run(farm.doors(), 120, &Interrupt::default()).unwrap();
    assert_eq!(visits.errors, [""; 0]);
    assert_eq!((visits.requests, visits.answered.len()), (120, 3));
    assert!(visits.moves > 0, "{visits:?}");
    farm.stop().unwrap();
}

#[test]
fn in_this_process() {
    everybody_answers(Fabric::Process);
}

#[test]
fn in_network_namespaces() {
    if ipos_lab::available("axum_farm::in_network_namespaces") {
        everybody_answers(Fabric::Netns);
    }
}

#[test]
fn too_many_servers_are_refused() {
    let servers = MOST_SERVERS + 1;
    let refused = AxumFarm::start(&Plan {
        servers,
        ..plan(Fabric::Process)
    });
    let error = refused.err().unwrap().to_string();
    assert_eq!(error, "--servers: 1 to 16, not 17");
    let high = Plan {
        listen: "127.0.0.1:65535".parse().unwrap(),
        ..plan(Fabric::Process)
    };
    let error = AxumFarm::start(&high).err().unwrap().to_string();
    assert!(error.starts_with("--listen: 127.0.0.1:65535: "), "{error}");
}
