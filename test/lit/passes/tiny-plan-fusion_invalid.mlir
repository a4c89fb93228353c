// RUN: tinymlir-opt %s --split-input-file --verify-diagnostics --tiny-plan-fusion=max-ram=7 -o /dev/null
// RUN: not tinymlir-opt %S/inputs/no_main.mlir --tiny-plan-fusion 2>&1 | FileCheck %s --check-prefix=MAIN
// RUN: not tinymlir-opt %S/inputs/empty.mlir --tiny-plan-fusion=target=cortex-m99 2>&1 | FileCheck %s --check-prefix=TARGET
// RUN: not tinymlir-opt %S/tiny-plan-fusion.mlir --tiny-plan-fusion=max-overhead=0.5 2>&1 | FileCheck %s --check-prefix=LEAST
// RUN: not tinymlir-opt %S/tiny-plan-fusion.mlir --tiny-plan-fusion=plan=%S/inputs/samples.npy 2>&1 | FileCheck %s --check-prefix=PLAN
// MAIN: expects a function named @main
// TARGET: unknown target 'cortex-m99'
// LEAST: the least overhead is 1.0000, more than 0.5
// PLAN: samples.npy: cannot be read as a plan

// A budget that nothing meets: says the least.
// expected-error@+1 {{the network needs 8 bytes of RAM at the least, more than --max-ram 7 allows}}
func.func @main(%x: tensor<4xi8>) -> tensor<4xi8> {
  %y = call @layer0(%x) : (tensor<4xi8>) -> tensor<4xi8>
  return %y : tensor<4xi8>
}
func.func private @layer0(%x: tensor<4xi8>) -> tensor<4xi8>
    attributes {tiny.layer = "layer0", tiny.macs = 0 : i64, tiny.op = "max"} {
  %e = tensor.empty() : tensor<4xi8>
  %y = linalg.max ins(%x, %x : tensor<4xi8>, tensor<4xi8>) outs(%e : tensor<4xi8>) -> tensor<4xi8>
  return %y : tensor<4xi8>
}

// -----

// Layers are functions by then.
func.func @main(%x: tensor<4xi8>) -> tensor<4xi8> {
  // expected-error@+1 {{expects calls of layers, and nothing else}}
  %y = linalg.max ins(%x, %x : tensor<4xi8>, tensor<4xi8>) outs(%x : tensor<4xi8>) -> tensor<4xi8>
  return %y : tensor<4xi8>
}

// -----

// They are layers.
func.func @main(%x: tensor<4xi8>) -> tensor<4xi8> {
  // expected-error@+1 {{expects calls of layers, and nothing else}}
  %y = call @layer0(%x) : (tensor<4xi8>) -> tensor<4xi8>
  return %y : tensor<4xi8>
}
func.func private @layer0(%x: tensor<4xi8>) -> tensor<4xi8>
