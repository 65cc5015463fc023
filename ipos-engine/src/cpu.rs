//! Which processors a thread runs on.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors that the calling thread may run on, by their numbers.
///
/// # Errors
/// The operating system does not tell.
pub fn cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect())
}

/// Binds the calling thread to one processor, of those that it may run on.
pub(crate) fn pin(cpu: usize) -> io::Result<()> {
    if !cpus()?.contains(&cpu) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_runs_where_it_is_bound() {
        let all = cpus().unwrap();
        for &cpu in &all {
            let bound = thread::spawn(move || {
                pin(cpu).unwrap();
                cpus().unwrap()
            });
            assert_eq!(bound.join().unwrap(), [cpu]);
        }
        assert_eq!(cpus().unwrap(), all, "the other threads stay free");
        let none = (0..).find(|cpu| !all.contains(cpu)).unwrap();
        for cpu in [none, CpuSet::MAX_CPU, usize::MAX] {
            assert_eq!(pin(cpu).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }
}
