// RUN: tinymlir-opt %s --verify-diagnostics --tiny-unpack-kernels=kernel=direct -o /dev/null
// RUN: not tinymlir-opt %S/inputs/empty.mlir --tiny-unpack-kernels=target=cortex-m99 2>&1 | FileCheck %s

// CHECK: error: unknown target 'cortex-m99'

// Only kernels that leave out zero weights.
// expected-error@+1 {{knows the kernels unpacked, compact}}
module {}
