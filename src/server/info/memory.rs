//! INFO memory.

use super::view::load_u64;
use super::{Field, Figure, View};
use crate::server::evict;

pub const FIELDS: &[Field] = &[
    Field::new("used_memory", |view| view.used.into()),
    Field::new("used_memory_human", |view| Figure::Human(view.used as u64)),
    Field::new("used_memory_rss", |view| view.rss().into()),
    Field::new("used_memory_rss_human", |view| Figure::Human(view.rss() as u64)),
    Field::new("used_memory_peak", |view| view.peak().into()),
    Field::new("used_memory_peak_human", |view| Figure::Human(view.peak() as u64)),
    Field::new("used_memory_peak_perc", |view| Figure::Percent(percent(view.used, view.peak()))),
    Field::new("used_memory_peak_time", |view| load_u64(&view.server.process.peak_at_s).into()),
    Field::new("used_memory_overhead", |view| view.memory().overhead.into()),
    Field::new("used_memory_startup", |view| view.startup().into()),
    Field::new("used_memory_dataset", |view| view.dataset().into()),
    Field::new("used_memory_dataset_perc", |view| Figure::Percent(view.dataset_percent())),
    Field::new("allocator_allocated", |view| view.allocator().allocated.into()),
    Field::new("allocator_active", |view| view.allocator().active.into()),
    Field::new("allocator_resident", |view| view.allocator().resident.into()),
    Field::new("allocator_muzzy", |_| 0u64.into()),
    Field::new("total_system_memory", |view| view.total_memory().into()),
    Field::new("total_system_memory_human", |view| Figure::Human(view.total_memory())),
    // Every worker has an interpreter. The old field tells what scripts need in the largest of them, the new one what all take.
    Field::new("used_memory_lua", |view| view.server.scripts.eval_bytes.largest().into()),
    Field::new("used_memory_vm_eval", |view| view.server.scripts.eval_bytes.sum().into()),
    Field::new("used_memory_lua_human", |view| Figure::Human(view.server.scripts.eval_bytes.largest())),
    Field::new("used_memory_scripts_eval", |view| view.server.scripts.cached().1.into()),
    Field::new("number_of_cached_scripts", |view| view.server.scripts.cached().0.into()),
    Field::new("number_of_functions", |view| view.functions().into()),
    Field::new("number_of_libraries", |view| view.server.scripts.libraries().len().into()),
    Field::new("used_memory_vm_functions", |view| view.server.scripts.function_bytes.sum().into()),
    Field::new("used_memory_vm_total", |view| view.server.scripts.interpreter_bytes().into()),
    Field::new("used_memory_vm_total_human", |view| Figure::Human(view.server.scripts.interpreter_bytes())),
    Field::new("used_memory_functions", |view| view.server.scripts.library_bytes().into()),
    Field::new("used_memory_scripts", |view| view.script_bytes().into()),
    Field::new("used_memory_scripts_human", |view| Figure::Human(view.script_bytes() as u64)),
    Field::new("maxmemory", |view| view.config.maxmemory.into()),
    Field::new("maxmemory_human", |view| Figure::Human(view.config.maxmemory)),
    Field::new("maxmemory_policy", |view| view.setting("maxmemory-policy").into()),
    Field::new("allocator_frag_ratio", |view| Figure::Ratio(view.fragmentation().0)),
    Field::new("allocator_frag_bytes", |view| view.fragmentation().1.into()),
    Field::new("allocator_rss_ratio", |view| Figure::Ratio(ratio(view.allocator().resident, view.allocator().active))),
    Field::new("allocator_rss_bytes", |view| difference(view.allocator().resident, view.allocator().active).into()),
    Field::new("rss_overhead_ratio", |view| Figure::Ratio(ratio(view.rss(), view.allocator().resident))),
    Field::new("rss_overhead_bytes", |view| difference(view.rss(), view.allocator().resident).into()),
    Field::new("mem_fragmentation_ratio", |view| Figure::Ratio(ratio(view.rss(), view.used))),
    Field::new("mem_fragmentation_bytes", |view| difference(view.rss(), view.used).into()),
    Field::new("mem_not_counted_for_evict", |view| evict::not_counted(view.server).into()),
    Field::new("mem_replication_backlog", |view| view.memory().backlog.into()),
    Field::new("mem_total_replication_buffers", |view| view.memory().replication_buffers.into()),
    Field::new("mem_clients_slaves", |view| view.replica_bytes().into()),
    Field::new("mem_clients_normal", |view| view.clients().normal_bytes.into()),
    Field::new("mem_cluster_links", |view| load_u64(&view.server.slots.link_bytes).into()),
    Field::new("mem_aof_buffer", |view| aof_memory(view).into()),
    Field::new("mem_allocator", |_| "jemalloc-5.3.0".into()),
    Field::new("mem_overhead_db_hashtable_rehashing", |_| 0u64.into()),
    // Records are allocated once and for all; nothing here moves them.
    Field::new("active_defrag_running", |_| 0u64.into()),
    Field::new("lazyfree_pending_objects", |view| load_u64(&view.server.lazyfree.pending).into()),
    Field::new("lazyfreed_objects", |view| load_u64(&view.server.lazyfree.freed).into()),
];

impl View<'_> {
    /// What is not overhead.
    pub fn dataset(&self) -> usize {
        self.used.saturating_sub(self.memory().overhead)
    }

    /// Of what was added to an empty server.
    pub fn dataset_percent(&self) -> f64 {
        percent(self.dataset(), self.used.saturating_sub(self.startup())).min(100.0)
    }

    /// What scripts and libraries take besides their interpreters.
    fn script_bytes(&self) -> usize {
        self.server.scripts.cached().1 + self.server.scripts.library_bytes()
    }

    fn functions(&self) -> usize {
        self.server.scripts.libraries().values().map(|library| library.functions.len()).sum()
    }

    pub fn total_memory(&self) -> u64 {
        self.server.process.machine.get().map_or(0, |machine| machine.total_memory)
    }

    /// Of pages in use, what lies idle between allocations.
    pub fn fragmentation(&self) -> (f64, i64) {
        let allocator = self.allocator();
        (ratio(allocator.active, allocator.allocated), difference(allocator.active, allocator.allocated))
    }

    /// A directive as CONFIG GET shows it.
    pub fn setting(&self, name: &str) -> String {
        let value = crate::server::config::find_param(name.as_bytes()).map(|param| param.print(&self.config));
        String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()
    }
}

/// What the append-only file has yet to take, in the journal and on its way from there.
fn aof_memory(view: &View<'_>) -> u64 {
    let aof = &view.server.save_status.aof;
    aof.waiting(&view.server.journal) + load_u64(&aof.buffer_bytes)
}

pub fn ratio(value: usize, base: usize) -> f64 {
    if base == 0 { 0.0 } else { value as f64 / base as f64 }
}

pub fn percent(value: usize, base: usize) -> f64 {
    ratio(value, base) * 100.0
}

pub fn difference(value: usize, base: usize) -> i64 {
    value as i64 - base as i64
}

#[cfg(test)]
mod tests {
    #[test]
    fn ratios_of_nothing_are_nothing() {
        assert_eq!(super::ratio(5, 0), 0.0);
        assert_eq!(super::difference(3, 5), -2);
        assert_eq!(super::percent(1, 4), 25.0);
    }
}
