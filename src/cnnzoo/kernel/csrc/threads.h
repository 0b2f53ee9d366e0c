// Spreads independent items over threads that live for one call.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace cnnzoo {
namespace {

// Treats denormal numbers as zero while it lives, on this thread: they cost a hundred cycles each, and a dying network
// is full of them.
class DenormalsAreZero {
#if defined(__SSE2__)
    const unsigned before = _mm_getcsr();

  public:
    DenormalsAreZero() { _mm_setcsr(before | 0x8040u); }
    ~DenormalsAreZero() { _mm_setcsr(before); }
#elif defined(__aarch64__)
    std::uint64_t before;

  public:
    DenormalsAreZero() {
        asm volatile("mrs %0, fpcr" : "=r"(before));
        asm volatile("msr fpcr, %0" ::"r"(before | (1ull << 24)));
    }
    ~DenormalsAreZero() { asm volatile("msr fpcr, %0" ::"r"(before)); }
#else
  public:
    DenormalsAreZero() {}
#endif
    DenormalsAreZero(const DenormalsAreZero&) = delete;
};

// Runs worker(take) on each thread, where take() gives the next of `items` item numbers, or `items` when there are no
// more. The caller waits and polls keep_going() meanwhile. Rethrows a worker's exception. False if ended early.
template <class Worker, class KeepGoing>
bool spread(std::size_t items, int threads, const KeepGoing& keep_going, const Worker& worker) {
    std::atomic<std::size_t> next{0};
    std::atomic<bool> stop{false};
    std::mutex mutex;
    std::condition_variable finished;
    std::exception_ptr failure;
    std::size_t running = std::min<std::size_t>(items, static_cast<std::size_t>(std::max(threads, 1)));

    const auto take = [&]() -> std::size_t { return stop ? items : std::min(next.fetch_add(1), items); };
    const auto run = [&] {
        const DenormalsAreZero guard;
        std::exception_ptr caught;
        try {
            worker(take, stop);
        } catch (...) {
            caught = std::current_exception();
            stop = true;
        }
        const std::lock_guard<std::mutex> lock(mutex);
        if (caught) failure = caught;
        --running;
        finished.notify_all();
    };

    std::vector<std::thread> pool;
    const auto join = [&] {
        for (std::thread& thread : pool) thread.join();
    };
    const std::size_t wanted = running;
    try {
        for (std::size_t i = 0; i < wanted; ++i) pool.emplace_back(run);
    } catch (...) {  // the system gives no more threads
        stop = true;
        join();
        throw;
    }
    bool whole = true;
    std::unique_lock<std::mutex> lock(mutex);
    while (running) {
        finished.wait_for(lock, std::chrono::milliseconds(100));
        if (running && whole) {
            lock.unlock();
            if (!keep_going()) {
                whole = false;
                stop = true;
            }
            lock.lock();
        }
    }
    lock.unlock();
    join();
    if (failure) std::rethrow_exception(failure);
    return whole;
}

}  // namespace
}  // namespace cnnzoo
