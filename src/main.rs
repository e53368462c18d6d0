//! The server binary: the allocator, and the call of `boot`.

use rsredis::boot;
use rsredis::engine::memory::Counting;

#[global_allocator]
static ALLOCATOR: Counting<tikv_jemallocator::Jemalloc> = Counting(tikv_jemallocator::Jemalloc);

fn main() -> std::process::ExitCode {
    boot::main()
}
