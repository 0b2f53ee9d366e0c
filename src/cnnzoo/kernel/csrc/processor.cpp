// Compiled for any processor of the architecture: nothing of this module may run before it says yes.
#include "engine.h"

namespace cnnzoo {

bool processor_fits() {
#if defined(CNNZOO_X86_64_V4)
    return __builtin_cpu_supports("x86-64-v4");
#elif defined(CNNZOO_X86_64_V3)
    return __builtin_cpu_supports("x86-64-v3");
#else
    return true;
#endif
}

}  // namespace cnnzoo
