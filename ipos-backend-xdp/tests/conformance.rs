//! The port passes what every backend must, over veth pairs: in generic and in native mode, in turn.

mod support;

mod generic {
    use ipos_backend_xdp::Mode;

    use crate::support::Veth;

    fn bed(test: &str) -> Option<Veth> {
        Veth::new(test, Mode::Generic)
    }

    ipos_backend::conformance!(bed);
}

mod native {
    use ipos_backend_xdp::Mode;

    use crate::support::Veth;

    fn bed(test: &str) -> Option<Veth> {
        Veth::new(test, Mode::Native)
    }

    ipos_backend::conformance!(bed);
}

mod shared_memory {
    use ipos_backend::conformance;
    use ipos_backend_xdp::Mode;

    use crate::support::Veth;

    /// Frames pass between ports of one memory as they do between strangers.
    fn forwarded(mode: Mode, test: &str) {
        let Some(entry) = Veth::new(test, mode) else {
            return;
        };
        let exit = entry.another();
        let free = entry.memory.free();
        conformance::lent_frames_are_forwarded(&entry, &exit);
        assert_eq!(entry.memory.free(), free, "all buffers came back");
        conformance::a_dead_exit_costs_nothing(&entry, &exit);
        assert_eq!(entry.memory.free(), free, "all buffers came back");
    }

    #[test]
    fn generic() {
        forwarded(Mode::Generic, "shared_memory::generic");
    }

    #[test]
    fn native() {
        forwarded(Mode::Native, "shared_memory::native");
    }
}
