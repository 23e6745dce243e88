// Steps over all parameters at once, by libtorch's operators on lists of tensors, which `tch` has not: one or two kernels of a
// GPU where a loop over parameters is a thousand. For adamw.rs beside it.

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cstdint>
#include <vector>

#include "caught.h"

extern "C" {

struct RestainAdamW {
  double learning_rate, beta1, beta2, eps, weight_decay;
  int64_t step;
};

// Each list has `count` of tch's tensors, which are pointers to libtorch's. Gradients are zeroed.
int restain_adamw_step(const RestainAdamW* with, at::Tensor* const* parameters, at::Tensor* const* gradients, at::Tensor* const* first,
                       at::Tensor* const* second, int64_t count, char* message, size_t room) {
  return caught(message, room, [&] {
    c10::NoGradGuard guard;
    const auto list = [&](at::Tensor* const* tensors) {
      std::vector<at::Tensor> all;
      for (int64_t i = 0; i < count; ++i) all.push_back(*tensors[i]);
      return all;
    };
    const auto gradients_of = list(gradients);
    const auto step = at::full({}, static_cast<double>(with->step), gradients_of.at(0).options().requires_grad(false));
    at::_fused_adamw_(list(parameters), gradients_of, list(first), list(second), {}, std::vector<at::Tensor>(count, step),
                      with->learning_rate, with->beta1, with->beta2, with->weight_decay, with->eps, false, false);
    at::_foreach_zero_(gradients_of);
  });
}

// The Euclidean norm of all of them together, f32 on their device, into `norm`.
int restain_norm(at::Tensor* const* tensors, int64_t count, at::Tensor* norm, char* message, size_t room) {
  return caught(message, room, [&] {
    c10::NoGradGuard guard;
    std::vector<at::Tensor> all;
    for (int64_t i = 0; i < count; ++i) all.push_back(*tensors[i]);
    norm->copy_(at::stack(at::_foreach_norm(all, 2)).norm());
  });
}

// Multiplies all of them by a scalar tensor.
int restain_scale(at::Tensor* const* tensors, int64_t count, const at::Tensor* by, char* message, size_t room) {
  return caught(message, room, [&] {
    c10::NoGradGuard guard;
    std::vector<at::Tensor> all;
    for (int64_t i = 0; i < count; ++i) all.push_back(*tensors[i]);
    at::_foreach_mul_(all, *by);
  });
}

}  // extern "C"
