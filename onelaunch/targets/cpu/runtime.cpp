// The C interface of the runtime, for ctypes. One library a process: all programs share its threads.
#include "onelaunch/engine.h"

#include <cstring>
#include <new>

using namespace onelaunch;

namespace {

thread_local std::string last_error;

struct AtExit {
  ~AtExit() { Pool::shutdown(); }
} at_exit;

}  // namespace

extern "C" {

// Bytes of a struct of task.h, so that the host can assert its own layout; -1 for a name that is not one.
int64_t onelaunch_size_of(const char* name) {
  if (std::strcmp(name, "Task") == 0) return sizeof(Task);
  if (std::strcmp(name, "Wait") == 0) return sizeof(Wait);
  if (std::strcmp(name, "Tables") == 0) return sizeof(Tables);
  if (std::strcmp(name, "LaunchError") == 0) return sizeof(LaunchError);
  if (std::strcmp(name, "Stamp") == 0) return sizeof(Stamp);
  if (std::strcmp(name, "Kernel") == 0) return sizeof(Kernel);
  return -1;
}

// Why the last call on this thread failed; owned by the runtime, valid until the next call on this thread.
const char* onelaunch_last_error() { return last_error.c_str(); }

// Null on failure.
void* onelaunch_create(const Tables* tables) {
  try {
    return Engine::create(*tables, last_error).release();
  } catch (const std::bad_alloc&) {
    last_error = "out of memory";
    return nullptr;
  }
}

void onelaunch_destroy(void* program) { delete static_cast<Engine*>(program); }

// Returns the status, which is also in `error`. The calling thread is worker 0.
int32_t onelaunch_launch(void* program, void* const* buffers, const int64_t* symbols, LaunchError* error) {
  *error = static_cast<Engine*>(program)->launch(buffers, symbols);
  return error->status;
}

void onelaunch_set_deadline(void* program, int64_t limit_ns) { static_cast<Engine*>(program)->set_deadline(limit_ns); }

void onelaunch_set_counters(void* program, uint32_t launches) {
  static_cast<Engine*>(program)->set_counters(launches);
}

void onelaunch_set_trace(void* program, Stamp* stamps) { static_cast<Engine*>(program)->set_trace(stamps); }

}  // extern "C"
