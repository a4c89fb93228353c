// The core must be one that there is.
// RUN: not tinymlir-opt %S/inputs/empty.mlir --tiny-unpack-kernels=target=cortex-m99 2>&1 | FileCheck %s

// CHECK: error: unknown target 'cortex-m99'
