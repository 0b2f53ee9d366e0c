// Compiled for any processor of the architecture: nothing of this module may run before it says yes.
#include "engine.h"

namespace cnnzoo {

// Feature by feature, as clang knows the names of the levels from version 16 on only. CMakeLists.txt asks the same.
bool processor_fits() {
#if defined(CNNZOO_X86_64_V4)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
#elif defined(CNNZOO_X86_64_V3)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2");  // processors that have these have the rest of the level
#else
    return true;
#endif
}

}  // namespace cnnzoo

#if defined(CNNZOO_PROBE)
int main() { return !cnnzoo::processor_fits(); }
#endif
