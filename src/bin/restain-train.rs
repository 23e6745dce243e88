use tch::{Device, Kind, Tensor};
fn main() {
    tch::set_num_threads(2);
    let bench = |name: &str, k: Kind, m: i64, kk: i64, n: i64| {
        let x = Tensor::randn([m, kk], (k, Device::Cpu)).set_requires_grad(true);
        let w = Tensor::randn([n, kk], (k, Device::Cpu)).set_requires_grad(true);
        let b = Tensor::randn([n], (k, Device::Cpu));
        for _ in 0..3 {
            let _ = x.linear(&w, Some(&b));
        }
        let t = std::time::Instant::now();
        let it = 20;
        for _ in 0..it {
            let _ = x.linear(&w, Some(&b));
        }
        let s = t.elapsed().as_secs_f64() / it as f64;
        let t = std::time::Instant::now();
        for _ in 0..it {
            let y = x.linear(&w, Some(&b));
            y.sum(Kind::Float).backward();
        }
        let s2 = t.elapsed().as_secs_f64() / it as f64;
        println!(
            "{name} {m}x{kk}x{n}: fwd {:.1} GFLOP/s, fwd+bwd {:.1}",
            2.0 * (m * kk * n) as f64 / s / 1e9,
            6.0 * (m * kk * n) as f64 / s2 / 1e9
        );
    };
    for (m, kk, n) in [(2320, 384, 1152), (2320, 384, 1536), (2320, 1536, 384)] {
        bench("f32", Kind::Float, m, kk, n);
        bench("bf16", Kind::BFloat16, m, kk, n);
    }
    let gelu = |k: Kind| {
        let x = Tensor::randn([2320, 1536], (k, Device::Cpu));
        let t = std::time::Instant::now();
        for _ in 0..20 {
            let _ = x.gelu("none");
        }
        println!("gelu {k:?} {:.2} ms", t.elapsed().as_secs_f64() / 20. * 1e3);
        let x = Tensor::randn([2320, 384], (Kind::Float, Device::Cpu));
        let t = std::time::Instant::now();
        for _ in 0..20 {
            let _ = x.to_kind(Kind::BFloat16);
        }
        println!("cast {:.2} ms", t.elapsed().as_secs_f64() / 20. * 1e3);
        let q = Tensor::randn([16, 8, 145, 48], (k, Device::Cpu)).set_requires_grad(true);
        for _ in 0..2 {
            let o = Tensor::scaled_dot_product_attention(&q, &q, &q, None::<Tensor>, 0.0, false, None, false);
            o.sum(Kind::Float).backward();
        }
        let t = std::time::Instant::now();
        for _ in 0..20 {
            let o = Tensor::scaled_dot_product_attention(&q, &q, &q, None::<Tensor>, 0.0, false, None, false);
            o.sum(Kind::Float).backward();
        }
        println!("sdpa f+b {:.2} ms", t.elapsed().as_secs_f64() / 20. * 1e3);
    };
    gelu(Kind::Float);
    gelu(Kind::BFloat16);
}
