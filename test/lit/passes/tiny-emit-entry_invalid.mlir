// RUN: tinymlir-opt %s --split-input-file --verify-diagnostics --tiny-emit-entry=symbol=2net -o /dev/null
// RUN: not tinymlir-opt %S/inputs/no_main.mlir --tiny-emit-entry 2>&1 | FileCheck %s

// The prefix is a C identifier.
// expected-error@+1 {{'2net' is not a C identifier}}
module {
  func.func @main() {
    return
  }
}

// There is a network.
// CHECK: error: expects a function named @main
