// A process group of libtorch's own gloo behind five C functions, for ../gloo.rs.
//
// libtorch_cpu.so exports c10d::ProcessGroupGloo, and the distribution has its header but not gloo's own headers, which
// that header includes. It holds gloo's types by pointer only, so their names are enough: build.rs puts empty files
// in the place of the missing headers, and the names are declared here. Every size and every virtual table that is
// compiled below is libtorch's.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace gloo {
class Context {
 public:
  void setTimeout(std::chrono::milliseconds);
};
namespace transport {
class Device;
class UnboundBuffer {
 public:
  virtual ~UnboundBuffer();
};
}  // namespace transport
namespace rendezvous {
class Store {
 public:
  virtual ~Store();
  virtual void set(const std::string&, const std::vector<char>&) = 0;
  virtual std::vector<char> get(const std::string&) = 0;
  virtual void wait(const std::vector<std::string>&) = 0;
  virtual void wait(const std::vector<std::string>&, const std::chrono::milliseconds&) = 0;
};
}  // namespace rendezvous
}  // namespace gloo

#define USE_C10D_GLOO
#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "caught.h"

namespace {

struct Group {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
};

at::Tensor borrowed(void* data, int64_t length, at::ScalarType type) {
  return at::from_blob(data, {length}, at::TensorOptions().dtype(type));
}

}  // namespace

extern "C" {

struct Rendezvous {
  const char* host;
  const char* attempt;
  int port, serves, rank, size, timeout_s;
};

int restain_gloo_join(const Rendezvous* at, void** group, char* message, size_t room) {
  return caught(message, room, [&] {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(at->port);
    options.isServer = at->serves != 0;
    options.numWorkers = at->size;
    // A store that another process serves counts its workers by itself.
    options.waitWorkers = false;
    options.timeout = std::chrono::seconds(at->timeout_s);
    auto tcp = c10::make_intrusive<c10d::TCPStore>(at->host, options);
    auto store = c10::make_intrusive<c10d::PrefixStore>(at->attempt, tcp);
    auto gloo_options = c10d::ProcessGroupGloo::Options::create_default(options.timeout);
    auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(store, at->rank, at->size, gloo_options);
    *group = new Group{store, gloo};
  });
}

void restain_gloo_leave(void* group) { delete static_cast<Group*>(group); }

int restain_gloo_sum(void* group, float* data, int64_t length, char* message, size_t room) {
  return caught(message, room, [&] {
    std::vector<at::Tensor> tensors{borrowed(data, length, at::kFloat)};
    static_cast<Group*>(group)->gloo->allreduce(tensors)->wait();
  });
}

// What process 0 holds, in every process.
int restain_gloo_broadcast(void* group, uint8_t* data, int64_t length, char* message, size_t room) {
  return caught(message, room, [&] {
    std::vector<at::Tensor> tensors{borrowed(data, length, at::kByte)};
    static_cast<Group*>(group)->gloo->broadcast(tensors)->wait();
  });
}

// Makes a CUDA device the current one of this thread, without CUDA's headers.
int restain_cuda_select(int index, char* message, size_t room) {
  return caught(message, room, [&] {
    c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA).setDevice(c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index)));
  });
}

}  // extern "C"
