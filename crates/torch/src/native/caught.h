// What every C function of this folder does with exceptions. `called` in mod.rs is the other half.

#pragma once

#include <c10/util/Exception.h>

#include <cstdio>

// Runs `work`; what it throws goes into `message` as one line. 0 on success.
template <typename Work>
int caught(char* message, size_t room, Work work) {
  try {
    work();
    return 0;
  } catch (const c10::Error& error) {
    snprintf(message, room, "%s", error.what_without_backtrace());
  } catch (const std::exception& error) {
    snprintf(message, room, "%s", error.what());
  }
  for (char* end = message; *end; ++end) {
    if (*end == '\n') *end = 0;
  }
  return 1;
}
