use std::time::Instant;
use foehn_kernels::{linear_cross_entropy, Targets};
use foehn_mistral::{Mistral, Packed, KvCache};
use foehn_weights::Weights;
use foehn_lora::{Adapter, LoraConfig};
fn main(){
    let dev = foehn::device("flex").unwrap();
    let t=Instant::now();
    let w = Weights::open(std::env::args().nth(1).unwrap()).unwrap();
    let c = Mistral::config_of(&w, None).unwrap();
    println!("{c:?}");
    let mut m = Mistral::load(&c,&w,&dev).unwrap();
    println!("load {:?}", t.elapsed());
    let a = Adapter::new(&LoraConfig::default(), &m, 1).unwrap();
    foehn_lora::attach_trainable(&mut m,&a).unwrap();
    let (b,n)=(4usize,128usize);
    let ids:Vec<u32>=(0..b*n).map(|i| (i as u32*7919)%49000).collect();
    let pos:Vec<u32>=(0..b*n).map(|i| (i%n) as u32).collect();
    let ends:Vec<u32>=(0..b*n).map(|i| ((i/n+1)*n) as u32).collect();
    for _ in 0..4 {
        let t=Instant::now();
        let h=m.forward(Packed{input_ids:&ids,position_ids:&pos,subtree_ends:&ends});
        let _ = h.clone().inner().sum().into_data();
        let t1=t.elapsed();
        let tg=Targets::new((0..b*n).filter(|i| i%n+1<n).map(|i|(i as u32, ids[i+1],1.0)));
        let l=linear_cross_entropy(h,m.head(),&tg);
        let v=l.clone().inner().into_data();
        let t2=t.elapsed();
        let g=l.backward();
        for p in foehn_lora::parameters(&m){ let _=p.tensor.grad(&g).unwrap(); }
        println!("fwd {t1:?} loss {:?} all {:?} {} ", t2, t.elapsed(), v);
    }
    let rss=std::fs::read_to_string("/proc/self/status").unwrap(); println!("{}", rss.lines().find(|l|l.starts_with("VmHWM")).unwrap());
    foehn_lora::attach(&mut m,&a).unwrap();
    let mut cache=KvCache::new(&c,1,256,&dev);
    let t=Instant::now(); let h=m.forward_cached(&[&ids[..64]],&mut cache); let _=m.logits(h).into_data(); println!("prefill64 {:?}",t.elapsed());
    let t=Instant::now(); for i in 0..50 { let h=m.forward_cached(&[&ids[i..i+1]],&mut cache); let _=m.logits(h).into_data();} println!("decode tok {:?}",t.elapsed()/50);
}
