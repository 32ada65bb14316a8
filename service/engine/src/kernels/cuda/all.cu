// Every kernel, as one module.
#include "../attention/plain.cu"
#include "../attention/tensor.cu"
#include "../rms_norm.cu"
#include "../rope.cu"
#include "../swiglu.cu"
