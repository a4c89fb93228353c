// RUN: not tinymlir-opt %s --tiny-significance=score=impact 2>&1 | FileCheck %s --check-prefix=DATA
// RUN: not tinymlir-opt %s --tiny-significance=data=samples.npz 2>&1 | FileCheck %s --check-prefix=DATA
// RUN: not tinymlir-opt %s '--tiny-significance=score=impact data=nowhere.npz' 2>&1 | FileCheck %s --check-prefix=FILE

// DATA: takes data=FILE with score=impact, and only then
// FILE: error: {{.*}}nowhere.npz

func.func @main(%x: tensor<1x2xi8>) -> tensor<1x2xi8> {
  return %x : tensor<1x2xi8>
}
